"""The anatomy this bundle can segment: names, synonyms, codes, colours, and where their labels come from.

`make_vocabulary.py` writes `vocabulary.toml` from these tables; the training reads the label sources.

Codes: SNOMED CT (scheme SCT) as listed in DICOM PS3.16 where it has the term (CID 7140, 7153, 4, 4031 ...),
and DICOM's own code (DCM) for the ventral diencephalon. Colours are RGB; sided structures get a light (left) and
a dark (right) shade of their colour.
"""

from dataclasses import dataclass, field

# Segmented Property Category (PS3.16 CID 7150).
ANATOMY = ("91723000", "SCT", "Anatomical Structure")
FINDING = ("49755003", "SCT", "Morphologically Abnormal Structure")


@dataclass(frozen=True)
class Structure:
    """One structure, sided or not.

    `sources` maps a data set to the label values that make up the structure: for sided structures a
    pair (left, right) of tuples, else one tuple.
    """

    name: str
    plural: str  # used for "both ..." of sided structures
    synonyms: tuple
    code: tuple  # (value, scheme, meaning)
    rgb: tuple
    body_regions: tuple
    modalities: tuple
    sided: bool
    sources: dict = field(default_factory=dict)
    both_synonyms: tuple = ()  # only for "both": plurals and collective words
    category: tuple = ANATOMY


def paired(name, plural, synonyms, code, rgb, regions, modalities, both_synonyms=(), **sources):
    return Structure(name, plural, synonyms, code, rgb, regions, modalities, True, sources, both_synonyms)


def single(name, synonyms, code, rgb, regions, modalities, **sources):
    return Structure(name, name, synonyms, code, rgb, regions, modalities, False, sources)


def finding(name, synonyms, code, rgb, regions, modalities, **sources):
    """A pathological structure; what the sampler inserts goes by its name."""
    return Structure(name, name, synonyms, code, rgb, regions, modalities, False, sources, (), FINDING)


def sct(value, meaning):
    return (value, "SCT", meaning)


HEAD, MR, CT = ("head",), ("MR",), ("CT",)

# FreeSurfer ids of one hemisphere, (left, right).
_WM, _CORTEX = ((2,), (41,)), ((3,), (42,))
_LATERAL = ((4, 5, 136, 137), (43, 44, 163, 164))
_CEREBELLAR_WM, _CEREBELLAR_CORTEX = ((7,), (46,)), ((8,), (47,))
_THALAMUS, _CAUDATE, _PUTAMEN, _PALLIDUM = ((10,), (49,)), ((11,), (50,)), ((12,), (51,)), ((13,), (52,))
_HIPPOCAMPUS, _AMYGDALA, _ACCUMBENS, _VENTRAL_DC = ((17,), (53,)), ((18,), (54,)), ((26,), (58,)), ((28,), (60,))
_LESION = ((25,), (57,))


def _union(*pairs):
    return tuple(tuple(i for pair in pairs for i in pair[side]) for side in (0, 1))


_BASAL = _union(_CAUDATE, _PUTAMEN, _PALLIDUM, _ACCUMBENS)
_HEMISPHERE = _union(_WM, _CORTEX, _LATERAL, _THALAMUS, _BASAL, _HIPPOCAMPUS, _AMYGDALA, _VENTRAL_DC, _LESION)
_CEREBELLUM = _union(_CEREBELLAR_WM, _CEREBELLAR_CORTEX)
_ALL_BRAIN = tuple(i for side in _HEMISPHERE + _CEREBELLUM for i in side) + (14, 15, 16, 24, 72, 85)

STRUCTURES = [
    # Brain, MR. Labels: FreeSurfer ids of the label maps.
    paired("cerebral white matter", "cerebral white matter",
           ("cerebral white matter", "white matter of the cerebrum", "cerebral wm", "hemispheric white matter", "white matter"),
           sct("68523003", "Cerebral White Matter"), (215, 205, 175), HEAD, MR,
           ("brain white matter",), brain=_union(_WM, _LESION)),
    paired("cerebral cortex", "cerebral cortices",
           ("cerebral cortex", "cortex", "cortical grey matter", "cortical gray matter", "cerebral grey matter",
            "cerebral gray matter", "cortical ribbon"),
           sct("40146001", "Cerebral cortex"), (205, 62, 78), HEAD, MR, ("grey matter", "gray matter"), brain=_CORTEX),
    paired("lateral ventricle", "lateral ventricles",
           ("lateral ventricle", "lat ventricle", "lateral cerebral ventricle", "ventriculus lateralis"),
           sct("66720007", "Lateral Ventricle"), (160, 70, 220), HEAD, MR, brain=_LATERAL),
    paired("cerebellar white matter", "cerebellar white matter",
           ("cerebellar white matter", "white matter of the cerebellum", "cerebellum white matter", "cerebellar wm"),
           sct("33060004", "Cerebellar White Matter"), (220, 248, 164), HEAD, MR, brain=_CEREBELLAR_WM),
    paired("cerebellar cortex", "cerebellar cortices",
           ("cerebellar cortex", "cortex of the cerebellum", "cerebellum cortex", "cerebellar grey matter",
            "cerebellar gray matter"),
           sct("25991003", "Cerebellar Cortex"), (230, 148, 34), HEAD, MR, brain=_CEREBELLAR_CORTEX),
    paired("thalamus", "thalami", ("thalamus", "thal", "dorsal thalamus", "thalamic nuclei"),
           sct("42695009", "Thalamus"), (0, 150, 40), HEAD, MR, brain=_THALAMUS),
    paired("caudate nucleus", "caudate nuclei", ("caudate nucleus", "caudate", "nucleus caudatus", "caud nuc"),
           sct("11000004", "Caudate Nucleus"), (122, 186, 220), HEAD, MR, brain=_CAUDATE),
    paired("putamen", "putamina", ("putamen", "put"), sct("89278009", "Putamen"), (236, 13, 176), HEAD, MR,
           brain=_PUTAMEN),
    paired("globus pallidus", "globi pallidi", ("globus pallidus", "pallidum", "pallidus"),
           sct("14738005", "Globus Pallidus"), (30, 70, 255), HEAD, MR, brain=_PALLIDUM),
    paired("hippocampus", "hippocampi",
           ("hippocampus", "hippocampal formation", "hippo", "ammon horn", "ammons horn", "cornu ammonis"),
           sct("5366008", "Hippocampus"), (240, 216, 20), HEAD, MR, brain=_HIPPOCAMPUS),
    paired("amygdala", "amygdalae", ("amygdala", "amygdaloid body", "amygdaloid nucleus", "amygdaloid complex", "amyg"),
           sct("4958002", "Amygdala"), (60, 230, 230), HEAD, MR, brain=_AMYGDALA),
    paired("nucleus accumbens", "nuclei accumbentes",
           ("nucleus accumbens", "accumbens", "accumbens area", "accumbens nucleus"),
           sct("427667007", "Nucleus Accumbens"), (255, 165, 0), HEAD, MR, brain=_ACCUMBENS),
    paired("ventral diencephalon", "ventral diencephala",
           ("ventral diencephalon", "ventral dc", "ventraldc", "subthalamic region"),
           ("110700", "DCM", "Ventral Diencephalon"), (165, 82, 42), HEAD, MR, brain=_VENTRAL_DC),
    paired("basal ganglia", "basal ganglia",
           ("basal ganglia", "basal nuclei", "basal ganglion", "deep grey nuclei", "deep gray nuclei"),
           sct("32610002", "Basal ganglia"), (90, 110, 190), HEAD, MR, brain=_BASAL),
    paired("cerebral hemisphere", "cerebral hemispheres",
           ("cerebral hemisphere", "hemisphere of the cerebrum", "hemicerebrum", "hemisphere", "cerebrum"),
           sct("372073000", "Cerebral hemisphere"), (255, 150, 130), HEAD, MR, ("telencephalon",), brain=_HEMISPHERE),
    paired("cerebellar hemisphere", "cerebellar hemispheres",
           ("cerebellar hemisphere", "hemisphere of the cerebellum", "hemicerebellum", "cerebellum hemisphere"),
           sct("6566002", "Cerebellar hemisphere"), (190, 130, 60), HEAD, MR, brain=_CEREBELLUM),
    single("brainstem", ("brain stem", "truncus encephali", "midbrain pons and medulla", "pons and medulla"),
           sct("119238007", "Brain Stem"), (119, 159, 176), ("head", "neck"), ("MR", "CT"), brain=(16,), headneck=(1,)),
    single("third ventricle", ("3rd ventricle", "ventriculus tertius", "iii ventricle"),
           sct("49841001", "Third ventricle"), (204, 182, 142), HEAD, MR, brain=(14,)),
    single("fourth ventricle", ("4th ventricle", "ventriculus quartus", "iv ventricle"),
           sct("35918002", "Fourth Ventricle"), (42, 204, 164), HEAD, MR, brain=(15,)),
    single("brain", ("whole brain", "encephalon", "brain parenchyma", "entire brain", "intracranial brain tissue",
                     "brain extraction", "brain mask"),
           sct("12738006", "Brain"), (216, 84, 149), HEAD, MR, brain=_ALL_BRAIN, lesion=(1, 2, 3)),
    single("cerebellum", ("whole cerebellum", "entire cerebellum", "little brain"),
           sct("113305005", "Cerebellum"), (200, 160, 40), HEAD, MR, brain=_CEREBELLUM[0] + _CEREBELLUM[1]),
    single("ventricles", ("ventricular system", "cerebral ventricles", "brain ventricles", "all ventricles",
                          "ventricles of the brain", "brain ventricle", "ventricular csf"),
           sct("35764002", "Brain ventricle"), (110, 40, 170), HEAD, MR, brain=_LATERAL[0] + _LATERAL[1] + (14, 15, 72)),
    # Head and neck, CT. Labels: OpenKBP contours.
    single("spinal cord", ("cord", "medulla spinalis", "myelon", "spinal canal cord", "spinal marrow"),
           sct("2748008", "Spinal cord"), (255, 215, 0), ("neck", "chest", "abdomen"), CT, headneck=(2,), torso=(79,)),
    paired("parotid gland", "parotid glands", ("parotid gland", "parotid", "parotis", "glandula parotidea"),
           sct("45289007", "Parotid gland"), (100, 200, 120), ("head", "neck"), CT, ("parotids",), headneck=((4,), (3,))),
    single("mandible", ("lower jaw", "jaw bone", "jawbone", "mandibular bone", "mandibula"),
           sct("91609006", "Mandible"), (245, 225, 170), ("head", "neck"), CT, headneck=(5,)),
    single("larynx", ("voice box", "laryngeal structure", "glottic larynx"), sct("4596009", "Larynx"), (0, 180, 200),
           ("neck",), CT, headneck=(6,)),
    single("oesophagus", ("esophagus", "gullet", "cervical oesophagus", "cervical esophagus", "food pipe"),
           sct("32849002", "Esophagus"), (190, 90, 170), ("neck", "chest"), CT, headneck=(7,)),
    # Torso, CT. Labels: TotalSegmentator values; lungs of the chest scans are derived from air.
    single("liver", ("hepar", "hepatic parenchyma", "whole liver"), sct("10200004", "Liver"), (221, 130, 101),
           ("abdomen",), CT, torso=(5,)),
    single("spleen", ("lien", "splenic parenchyma", "whole spleen"), sct("78961009", "Spleen"), (157, 108, 162),
           ("abdomen",), CT, torso=(1,)),
    paired("kidney", "kidneys", ("kidney", "ren", "renal parenchyma"), sct("64033007", "Kidney"), (185, 102, 83),
           ("abdomen",), CT, torso=((3,), (2,))),
    single("stomach", ("gaster", "gastric lumen and wall", "whole stomach"), sct("69695003", "Stomach"),
           (205, 110, 165), ("abdomen",), CT, torso=(6,)),
    single("aorta", ("aortic vessel", "abdominal aorta", "thoracic aorta", "main artery"), sct("15825003", "Aorta"),
           (224, 40, 30), ("chest", "abdomen"), CT, torso=(52,), chest=(3,)),
    single("vertebrae", ("vertebral bodies", "spine", "vertebral column", "spinal column", "backbone", "vertebra"),
           sct("51282000", "Vertebra"), (230, 200, 150), ("chest", "abdomen", "pelvis"), CT,
           torso=(27, 28, 29, 30, 31, 32, 33)),
    single("sacrum", ("sacral bone", "os sacrum"), sct("54735007", "Sacrum"), (150, 216, 54), ("pelvis",), CT,
           torso=(25, 26)),
    paired("hip bone", "hip bones",
           ("hip bone", "innominate bone", "os coxae", "coxal bone", "pelvic bone", "hemipelvis"),
           sct("28254004", "Hip bone"), (140, 200, 62), ("pelvis",), CT, ("bony pelvis",), torso=((77,), (78,))),
    paired("femur", "femora", ("femur", "thigh bone", "femoral bone", "proximal femur"),
           sct("71341001", "Femur"), (250, 190, 90), ("pelvis",), CT, ("femurs",), torso=((75,), (76,))),
    single("urinary bladder", ("bladder", "vesica urinaria", "urinary vesica"), sct("89837001", "Urinary bladder"),
           (222, 154, 132), ("pelvis",), CT, torso=(21,)),
    paired("lung", "lungs", ("lung", "pulmo", "lung parenchyma"), sct("39607008", "Lung"),
           (90, 170, 235), ("chest", "abdomen"), CT, torso=((10, 11), (14,)), chest=((1,), (2,))),
    # Added later, so that the order of the others holds.
    single("heart", ("cardiac silhouette", "whole heart", "entire heart", "cardiac shadow"), sct("80891009", "Heart"),
           (206, 60, 60), ("chest",), CT, chest=(4,)),
    # Findings in the brain, MR. Labels: inserted into painted heads, and contoured in real scans.
    finding("brain tumour", ("brain tumor", "tumour of the brain", "tumor of the brain", "intracranial tumour", "glioma",
                             "intracranial tumor", "glioblastoma", "gbm", "brain neoplasm", "brain mass", "brain cancer",
                             "enhancing tumour", "enhancing tumor", "cerebral tumour", "cerebral tumor", "whole tumour", "whole tumor",
                             "tumour core", "tumor core"),
            sct("108369006", "Neoplasm"), (255, 90, 0), HEAD, MR, lesion=(1,)),
    finding("brain metastases", ("brain metastasis", "cerebral metastasis", "cerebral metastases", "brain mets", "brain met",
                                 "intracranial metastases", "secondary brain tumours", "secondary brain tumors"),
            sct("128462008", "Metastatic neoplasm"), (255, 200, 60), HEAD, MR),
    finding("brain lesion", ("cerebral lesion", "brain lesions", "cerebral lesions", "white matter lesion", "ms lesion",
                             "white matter lesions", "ms lesions", "ms plaques", "demyelinating lesions", "intracranial lesion",
                             "stroke lesion", "ischaemic lesion", "ischemic lesion"),
            sct("52988006", "Lesion"), (250, 0, 120), HEAD, MR, lesion=(1, 2)),
    finding("brain oedema", ("brain edema", "peritumoural oedema", "peritumoural edema", "cerebral oedema", "cerebral edema", "peritumoral oedema", "peritumoral edema",
                             "perilesional oedema", "perilesional edema", "vasogenic oedema", "vasogenic edema"),
            sct("79654002", "Edema"), (120, 220, 80), HEAD, MR),
]

#: What a reader of every mask of a structure should know: figures of the card under 0.5, and structures without one.
_UNSEEN = "Dice {} on the one unseen scan that shows it"
_TRAINED = "never measured on an unseen scan; Dice {} on the one scan it was trained on"
CAUTIONS = {
    "stomach": _UNSEEN.format("0.07"), "aorta": _UNSEEN.format("0.27"), "vertebrae": _UNSEEN.format("0.40"),
    "kidney": _TRAINED.format("0.91"), "sacrum": _TRAINED.format("0.85"), "hip bone": _TRAINED.format("0.89"),
    "femur": _TRAINED.format("0.69 to 0.77"), "urinary bladder": _TRAINED.format("0.88"),
    "heart": "Dice 0.77 on one unseen scan, against a reference drawn by eye",
}

# Known terms outside the bundle: (name, synonyms, body regions). Orders that name them are refused.
ABSENT = [
    ("prostate", ("prostate gland",), ("pelvis",)),
    ("uterus", ("womb",), ("pelvis",)),
    ("ovary", ("ovaries", "left ovary", "right ovary"), ("pelvis",)),
    ("rectum", ("rectal wall",), ("pelvis",)),
    ("left ventricle of the heart", ("left cardiac ventricle", "cardiac left ventricle", "lv cavity", "left ventricular cavity"), ("chest",)),
    ("myocardium", ("left ventricular myocardium", "cardiac muscle"), ("chest",)),
    ("left atrium", ("left cardiac atrium",), ("chest",)),
    ("right atrium", ("right cardiac atrium",), ("chest",)),
    ("right ventricle of the heart", ("right cardiac ventricle", "cardiac right ventricle"), ("chest",)),
    ("coronary arteries", ("coronary artery",), ("chest",)),
    ("pulmonary artery", ("pulmonary trunk",), ("chest",)),
    ("trachea", ("windpipe",), ("neck", "chest")),
    ("ribs", ("rib", "rib cage"), ("chest",)),
    ("sternum", ("breastbone",), ("chest",)),
    ("breast", ("mammary gland", "left breast", "right breast"), ("chest",)),
    ("pancreas", ("pancreatic gland",), ("abdomen",)),
    ("gallbladder", ("gall bladder",), ("abdomen",)),
    ("adrenal gland", ("adrenal", "suprarenal gland", "left adrenal gland", "right adrenal gland"), ("abdomen",)),
    ("colon", ("large bowel", "large intestine"), ("abdomen",)),
    ("small bowel", ("small intestine",), ("abdomen",)),
    ("duodenum", (), ("abdomen",)),
    ("appendix", ("vermiform appendix",), ("abdomen",)),
    ("inferior vena cava", ("ivc", "vena cava"), ("abdomen",)),
    ("portal vein", ("vena portae",), ("abdomen",)),
    ("thyroid gland", ("thyroid",), ("neck",)),
    ("submandibular gland", ("submandibular glands", "submaxillary gland"), ("neck",)),
    ("carotid artery", ("carotid", "carotid arteries"), ("neck",)),
    ("tongue", (), ("head", "neck")),
    ("eye", ("eyeball", "globe of the eye", "left eye", "right eye"), ("head",)),
    ("optic nerve", ("left optic nerve", "right optic nerve"), ("head",)),
    ("pituitary gland", ("pituitary", "hypophysis"), ("head",)),
    ("corpus callosum", (), ("head",)),
    ("frontal lobe", ("left frontal lobe", "right frontal lobe"), ("head",)),
    ("temporal lobe", ("left temporal lobe", "right temporal lobe"), ("head",)),
    ("skull", ("calvarium", "cranium"), ("head",)),
    ("knee", ("knee joint", "left knee", "right knee"), ("pelvis",)),
    ("shoulder", ("shoulder joint", "humerus"), ("chest",)),
    ("lymph nodes", ("lymph node",), ("neck", "chest", "abdomen", "pelvis")),
    ("tumour", ("tumor", "neoplasm", "mass", "metastasis", "lesion", "cancer"),
     ("head", "neck", "chest", "abdomen", "pelvis")),
    ("haemorrhage", ("hemorrhage", "bleed", "haematoma", "hematoma"), ("head", "neck", "chest", "abdomen", "pelvis")),
]
