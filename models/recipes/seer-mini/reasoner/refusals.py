"""Orders that name no target, and texts that ask for no segmentation: small grammars, so that thousands of each occur."""

GENERIC = ("structure", "organ", "region", "area", "thing", "part", "object", "anatomy", "tissue", "zone", "spot", "region of interest",
           "ROI", "target", "volume", "compartment", "bit", "piece", "nucleus", "gland", "bone", "vessel", "muscle", "lobe", "cavity")
WHICH = ("relevant", "usual", "same", "other", "affected", "abnormal", "worse", "bigger", "smaller", "suspicious", "important", "interesting",
         "correct", "appropriate", "discussed", "mentioned", "requested", "larger", "darker", "brighter", "painful", "operated")
TAILS = ("", "", "", " as last time", " as discussed", " we talked about", " from the meeting", " from before", " on the affected side",
         " I showed you", " that looks odd", " please", " as always", " in question", " the boss wants")
SIDES = ("left", "right", "L", "R", "lt", "rt")

WHO = ("the patient", "the ward", "the surgeon", "the referring doctor", "my colleague", "the family", "the GP", "radiology", "the registrar", "reception")
THINGS = ("the report", "the images", "the study", "the appointment", "the letter", "a CD", "the old films", "the consent form", "the prior scan",
          "the results", "the invoice", "the request", "the dictation", "the contrast protocol", "the next visit", "this series", "a copy")
CHORES = ("send", "book", "print", "delete", "email", "fax", "upload", "reschedule", "cancel", "summarise", "archive", "sign off",
          "forward", "dictate", "close", "anonymise", "rename", "export", "share", "burn", "check the status of", "ring {w} about", "order", "bring",
          "hand over", "move", "merge", "correct", "proofread", "approve", "download", "look up", "file", "scan in")
TIMES = ("", "", "", " today", " tomorrow", " by Friday", " before noon", " in two weeks", " again", " for {w}", " to {w}", " with {w}", " this afternoon")
QUALITIES = ("normal", "enlarged", "atrophic", "fractured", "inflamed", "swollen", "intact", "visible", "bigger than last time", "displaced",
             "thickened", "perfused", "calcified", "asymmetric", "okay", "fine", "abnormal", "older than it looks", "unchanged", "symmetrical")
QUESTIONS = ("is {x} {q}?", "is {x} {q}", "are there any changes in {x}?", "does {x} look {q}?", "do you think {x} is {q}?", "why is {x} so {q}?",
             "what does {x} do?", "how big is {x} usually?", "what is the size of a {q} adult brain?", "has {x} grown since last year?", "any lesion in {x}?",
             "what is the signal of {x}?", "could {x} be {q}?", "when did {x} become {q}?", "who looked at {x}?", "was {x} biopsied?",
             "what do you make of {x}?", "can you tell me about {x}?", "tell me whether {x} is {q}", "explain {x} to {w}", "describe {x}",
             "comment on {x}", "{x} looks {q} to me", "{x} was {q} on the prior", "{x} is {q}, no action needed", "no change in {x}",
             "there is a cyst in {x}, known", "is there a mass in {x}?", "what is wrong with {x}?", "write a report about {x}", "is {x} covered by this scan?")
LOGISTICS = ("where", "how", "when", "to whom", "from whom", "why")
DEEDS = ("register", "get a badge", "find {w}", "reach {w}", "open the viewer", "change my password", "get the key", "see {w}", "leave my coat", "get lunch", "hand in {t}", "collect {t}",
         "enter the building", "reset the screen", "borrow a phone", "store {t}", "fill in {t}", "send {t}", "take the bus", "get a taxi", "sit down", "claim the parking fee")
PLACES = ("room four", "the scanner", "the printer", "the lift", "the waiting area", "the second floor", "the network", "the door", "the phone line", "the coffee machine", "the light", "the car park")
STATES = ("closed", "broken", "out of order", "occupied", "cold", "locked", "not answering", "full", "empty", "being cleaned")
OPINIONS = ("what is your view on {x}?", "your opinion on {x}?", "what do you say about {x}?", "how do you judge {x}?", "how does {x} look?", "any opinion about {x}?", "what is your impression of {x}?",
            "is there any {f}?", "any {f}?", "can you see {f}?", "is it {f}?", "could this be {f}?", "did you notice {f}?", "was there {f} before?")
FINDINGS = ("bleeding", "pneumonia", "oedema", "fracture", "infarct", "thrombus", "tumour", "effusion", "calcification", "haematoma", "midline shift", "recurrence", "atelectasis", "an abscess",
            "a cyst", "aneurysm", "stroke", "hydrocephalus", "embolism", "artefact", "gliosis", "ascites", "free air")
PLAIN_QUESTIONS = ("is there a bleed?", "any acute findings?", "what is the diagnosis?", "when was this scan done?", "is this normal?", "which sequence is this?",
                   "what is the slice thickness?", "do you see a fracture?", "who is the referring doctor?", "how old is {w}?", "was gadolinium given?",
                   "did {w} come yesterday?", "what is the weather like?", "how long will it take?", "where is {w}?", "is {w} allergic to iodine?",
                   "can {w} go home?", "does {w} need surgery?", "which scanner was used?", "should we repeat the scan?", "why was the scan stopped?",
                   "what is the kV?", "is the quality good enough?", "which side is the stroke?", "any metastases?", "how many slices are there?")
CHATTER = ("thanks", "thank you", "hello", "hi", "good evening", "good afternoon", "ok", "okay", "test", "testing", "never mind", "sorry, wrong window",
           "see you later", "done", "got it", "will do", "lunch?", "busy today", "nice work", "no", "yes", "wait", "hold on", "all good", "perfect",
           "hi there", "dear all", "best wishes", "ignore this", "call me when ready", "ping", "lol", "sounds good", "many thanks", "noted", "fyi", "n/a",
           "do nothing", "stop", "help", "what?", "coffee?", "I am on leave next week", "{w} will call back", "{w} was discharged", "{w} has arrived",
           "{w} refused contrast", "the scanner is down", "please sign", "log me out", "1234", "asdf", "...", "???", "next patient please")

HAPPENED = ("moved", "coughed", "was late", "felt sick", "fell asleep", "was anxious", "could not hold still", "had a break", "was claustrophobic",
            "breathed in", "had to be scanned twice", "was rude", "spoke no English", "brought the old films", "came by ambulance")
WHEN = ("", " during the scan", " in the scanner", " this morning", " before the second series", ", so the images are blurred", " on the table")
THANKS = ("thanks", "thank you", "many thanks", "thx", "cheers", "great work", "good morning", "good night", "welcome back", "hello")
TO = ("", " very much", " so much", " a lot", " everybody", " all", " team", " for the quick reply", " for your help", " again", " and bye")


def vague(drawer, nouns):
    """An order that leaves open what to segment, or which side of `nouns` when it leaves only that open."""
    r, v, s = drawer.r, drawer.verb(), drawer.r.choice
    side, noun = s(SIDES), s(nouns)
    kind = r.random()
    if kind < 0.3:
        return f"{s(('', 'please ', 'pls ', 'can you '))}{v} {s(('it', 'this', 'that', 'them', 'these', 'everything', 'something', 'all of it', 'here', 'both', 'one side', 'both of them', 'the usual', 'whatever you see'))}{s(TAILS)}"
    if kind < 0.6:
        return f"{v} {s(('the', 'that', 'this', 'a', 'the same', 'any'))} {s(('', '', s(WHICH) + ' '))}{s(GENERIC)}{s(TAILS)}"
    if kind < 0.72:
        return f"{v} {s(('the ', ''))}{side}{s((' one', ' side', '', ' part', ' bit'))}{s(TAILS)}"
    if kind < 0.92:
        return s((f"{v} the left or the right {noun}", f"{v} L or R {noun}", f"{v} one {noun}, either side", f"{v} the {noun} on the {s(('affected', 'abnormal', 'painful', 'operated', 'worse', 'bad'))} side",
                  f"{v} whichever {noun} is {s(('bigger', 'smaller', 'worse', 'clearer'))}", f"{v} the {s(WHICH)} {noun}", f"{v} the {noun}, side as {s(('discussed', 'before', 'marked', 'on the form'))}",
                  f"{v} the {noun}, left? or right?", f"{v} one of the {noun}", f"{v} either {noun}", f"which {noun} is worse? {v} that one"))
    return s(("segmentation please", "seg pls", "contours needed", "need a mask", "volumetry", "mask", "ROI", "contour", "segment", "please segment", "outline needed", "volume pls",
              "do the segmentation", "masks for planning", "3D model please", "label map needed", "volumes for the study", "usual contours", "planning contours pls", "OAR"))


def no_request(drawer, mention):
    """A question, a chore, a remark or chatter; may name a structure but asks for no mask of it."""
    r, s = drawer.r, drawer.r.choice
    kind = r.random()
    if kind < 0.08:
        text = s(OPINIONS).format(x=s(("the ", "", "the ", "his ", "her ")) + mention, f=s(FINDINGS))
    elif kind < 0.15:
        deed = s(DEEDS).format(w=s(WHO), t=s(THINGS))
        text = s((f"{s(LOGISTICS)} {s(('can', 'do', 'should', 'may'))} I {deed}?", f"{s(LOGISTICS)} can we {deed}?", f"{s(LOGISTICS)} does one {deed}",
                  f"{s(PLACES)} is {s(STATES)}", f"is {s(PLACES)} {s(STATES)}?", f"I would like to {deed}"))
    elif kind < 0.36:
        text = s(QUESTIONS).format(x=s(("the ", "", "the ", "his ", "her ")) + mention, q=s(QUALITIES), w=s(WHO))
    elif kind < 0.52:
        text = s(PLAIN_QUESTIONS).format(w=s(WHO))
    elif kind < 0.82:
        chore = s(CHORES).format(w=s(WHO))
        text = f"{s(('', '', 'please ', 'pls ', 'could you ', 'kindly ', 'can someone '))}{chore} {s(THINGS)}{s(TIMES).format(w=s(WHO))}"
    elif kind < 0.88:
        text = f"{s(WHO)} {s(HAPPENED)}{s(WHEN)}{s(('', '', ', sorry', ', just so you know', ', FYI'))}"
    elif kind < 0.93:
        text = s(THANKS) + s(TO)
    else:
        text = s(CHATTER).format(w=s(WHO))
    if r.random() < 0.3 and text[-1].isalpha():
        text += "."
    return text if r.random() < 0.7 else text.rstrip("?") + s(("", "?", " please", " thx", "!", " asap"))
