"""Requests put together from parts, so that what stands around a target varies more than any list of templates.

`composed` writes formal tasks, letters, reports and questions; `sentence_remark` says in a sentence of its own that
another structure is not wanted, before, after or in the middle of the request.
"""
import lexicon as words

MAKE = ("Provide", "Create", "Generate", "Make", "Return", "Compute", "Prepare", "Deliver", "Produce", "Supply", "Output", "Give", "Obtain", "Draw", "Write")
PRODUCT = ("a segmentation", "a mask", "a binary mask", "a voxel mask", "a label map", "a 3D model", "the contour", "an outline", "the volume", "a delineation",
           "the extent", "the whole extent", "all voxels", "the boundary", "a volumetric mask", "a volumetric segmentation", "the complete contour", "the full volume",
           "a surface", "a three-dimensional mask", "the borders", "a labelling", "the shape in three dimensions", "a manual-quality contour")
SCOPE = ("", "", "", " in this scan", " on all slices", " on every slice", " in 3D", " in all planes", " from these images", " on this study", " for the whole volume", " slice by slice",
         " in the attached series", " on the present exam", " over its entire length")
FACT = ("The {t} is to be {d}{s}.", "The {t} should be {d}{s}.", "The {t} must be {d}{s}", "{t}: to be {d}{s}", "The {t} needs to be {d}{s}.", "We want the {t} {d}{s}.",
        "Have the {t} {d}{s}.", "Requested: {t}, {d}{s}.", "Let the {t} be {d}{s}.", "The object to be {d} is the {t}.", "What is to be {d}: {t}.", "Only the {t} is to be {d}{s}.")
DONE = ("segmented", "outlined", "contoured", "delineated", "marked", "traced", "masked", "measured", "labelled", "extracted", "quantified", "annotated", "drawn", "isolated",
        "segmented in three dimensions", "contoured on all slices", "measured by volume", "painted", "circumscribed", "highlighted")
FIELD = ("Target", "Target structure", "Structure", "Organ", "ROI", "Object", "Anatomy", "Region of interest", "Task", "Request", "Segmentation target", "Contour", "Quantification target", "To do", "Order",
         "Structure to outline", "Requested structure", "Volume of interest", "VOI", "OAR")
OUTPUT = ("", "", "", ". Output: mask.", ". Format: binary mask.", "; output = label map", ". Result: segmentation.", " | type: contour", ". Return a mask.", " (3D mask)", ". Mask only.")

OPENING = ("Hi,", "Hello,", "Hello all,", "Dear all,", "Dear colleague,", "Dear team,", "Good day,", "Good morning,", "Hi radiology,", "Dear Sir or Madam,", "Hey,", "Dear doctor,", "Hi everybody,",
           "Morning!", "To the imaging team:", "Evening all,", "Dear friends,", "Hi again,", "Greetings,", "Dear reporting room,")
LEAD = ("I hope that you are well.", "thank you for yesterday's reply.", "sorry for the short notice.", "this is about the scan from this week.", "the images should have arrived by now.",
        "I am writing on behalf of our clinic.", "we spoke about this on the phone.", "there were questions about what we ordered, so let me repeat it.", "I do not know the system very well yet.",
        "the patient has {i}.", "we follow a patient with {i}.", "the background is {i}.", "there is a history of {i}.", "we are planning the next steps.", "our team met this morning.",
        "everything went well with the examination.", "the series is complete as far as I can see.", "the old request was lost.", "I was asked to send this on.", "my senior wants this today.",
        "I have one more wish.", "this may sound strange.", "nobody was sure how to enter it.", "we compared notes after the meeting.", "the quality of the images is good.")
CORE = ("Could you {v} the {t}?", "Could somebody please {v} the {t} {f}?", "Please {v} the {t} {f}.", "We would like to have the {t} {d}.", "It would help us to have the {t} {d} {f}.",
        "What we need is the {t}, {d}.", "All that we need is the {t}.", "The one structure that matters to us is the {t}; it should be {d}.", "I would be glad to see the {t} {d} {f}.",
        "Would you be so kind as to {v} the {t} {f}?", "My request is to {v} the {t}.", "The idea is to {v} the {t} {f}.", "Today it is the {t} that we want {d}.", "This time it concerns the {t}: please {v} it.",
        "Can I ask you for {m} of the {t} {f}?", "I need {m} of the {t} {f}.", "We are interested in the {t} alone and want it {d}.", "The plan asks for {m} of the {t}, and for no more than that.",
        "It is the {t} which the study protocol wants {d}.", "Is there a chance to get the {t} {d} {f}?", "If you find the time, {v} the {t}.", "We agreed that {m} of the {t} would be best.",
        "So please let us have the {t} as {m}.", "Our question concerns the {t}. Could it be {d}?", "My boss has asked me to order {m} of the {t}.", "For this we have to {v} the {t} {f}.",
        "I wonder if the {t} could be {d} {f}.", "Having the {t} {d} would be of great use {f}.")
FOR = ("", "", "", "for the study", "for planning", "for the operation", "to measure its volume", "to see how it changes", "for a comparison", "for the meeting", "for a lecture", "for the records",
       "before the treatment", "to rule out atrophy", "for the dose plan", "for our database", "for a 3D print", "to check the size", "to help the surgeon", "for follow-up")
CLOSE = ("Thanks!", "Thank you.", "Many thanks.", "Best wishes", "Kind regards", "There is no hurry.", "It is rather urgent.", "Ring me with questions.", "Thanks a million", "Yours sincerely", "Take your time.",
         "Cheers", "Please let me know when it is done.", "We appreciate it.", "With thanks", "See you at the conference.", "Best", "Thank you in advance!", "Sorry for the trouble.", "Good luck.")

SECTION = ("CLINICAL INFORMATION", "HISTORY", "INDICATION", "Clinical question", "Reason", "Dx", "Background", "Clin. details", "Diagnosis", "History", "Info", "Reason for the exam")
QUALITY = ("no motion", "good image quality", "without complications", "standard protocol", "no prior for comparison", "prior from last year", "axial slices", "complete", "as usual", "non-contrast", "adequate")
EXAM = ("EXAM", "STUDY", "Examination", "Technique", "TECHNIQUE", "Procedure", "Modality", "Scan")
WISH = ("TASK", "REQUEST", "ROI", "Wanted", "Order", "Segment", "To be outlined", "PLAN", "Structure", "Target", "Volumetry", "Please contour", "Needs contouring", "Delineate", "Contours")

ASIDE = ("The {x} is not needed.", "We do not need the {x}.", "No need to do the {x}.", "The {x} looks fine.", "The {x} looks normal.", "The {x} has been done already.", "The {x} was done before.",
         "The {x} was contoured last month.", "We have the {x} from before.", "Somebody else does the {x}.", "Leave the {x} alone.", "Leave out the {x}.", "Please skip the {x}.", "Skip the {x} this time.",
         "Please do not touch the {x}.", "Do not include the {x}.", "Not the {x}.", "Without the {x}.", "The {x} can wait.", "The {x} is of no interest here.", "I am not asking for the {x}.", "Ignore the {x}.",
         "The {x} was unremarkable.", "There is a small cyst near the {x}.", "It must not run into the {x}.", "It should stop at the {x}.", "Do not confuse it with the {x}.", "It lies next to the {x}.",
         "The {x} belongs to another order.", "No {x} please.", "Exclude the {x}.", "The {x} will follow later.", "The {x} is already on file.", "Nothing was seen in the {x}.", "Do not add the {x}.")


def composed(style, drawer, target, structure, exam):
    """A request of the style around the marked `target`; None where the style has no such form."""
    r, pick = drawer.r, drawer.r.choice
    put = lambda text: text.format(t=target, v=drawer.verb(), d=pick(DONE), f=pick(FOR), m=pick(PRODUCT), s=pick(SCOPE), i=drawer.indication(structure)).replace(" ?", "?").replace(" .", ".")
    if style == "formal_task":
        kind = r.random()
        if kind < 0.4:
            return put(f"{pick(MAKE)} {pick(PRODUCT)} of {pick(('the ', 'the ', ''))}{{t}}{{s}}{pick(('', '.', '.'))}")
        if kind < 0.75:
            return put(pick(FACT))
        return put(f"{pick(FIELD)}{pick((': ', ': ', ' = ', ' - ', ' is the '))}{{t}}{pick(OUTPUT)}")
    if style == "verbose_request":
        lead = pick(LEAD) if r.random() < 0.75 else ""
        if r.random() < 0.25:
            lead += " " + pick(LEAD).capitalize()
        return put(" ".join(part for part in (pick(OPENING) if r.random() < 0.85 else "", lead, pick(CORE), pick(CLOSE) if r.random() < 0.8 else "") if part))
    if style == "clinical_request":
        core = put(pick(CORE))
        return core if r.random() < 0.4 else f"{drawer.indication(structure)}. {core}" if r.random() < 0.5 else f"{core} {pick(('Background', 'Indication', 'History', 'Patient with', 'Reason'))}: {drawer.indication(structure)}."
    if style == "report_style":
        parts = [f"{pick(EXAM)}: {exam}.", f"{pick(SECTION)}: {drawer.indication(structure)}.", f"{pick(('Comparison', 'Findings', 'Quality', 'Technique'))}: {pick(QUALITY)}."]
        parts = [part for part in parts if r.random() < 0.6]
        wish = put(f"{pick(WISH)}: {{t}}.") if r.random() < 0.7 else put(pick(FACT))
        parts.insert(r.randint(0, len(parts)) if r.random() < 0.3 else len(parts), wish)
        return pick((" ", " ", "\n")).join(parts)
    return None


def sentence_remark(text, other, r):
    """`text` with a sentence that another structure is not what is wanted."""
    said = r.choice(ASIDE).format(x=other)
    if r.random() < 0.2:
        return f"{said} {text}"
    cut = text.rfind(". ")
    if cut > len(text) * 0.6 and r.random() < 0.5:
        return f"{text[:cut + 1]} {said}{text[cut + 1:]}"
    return f"{text}{'' if text[-1:] in '.!?' else '.'} {said}"
