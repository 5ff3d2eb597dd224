"""The data sets of the papers, and what stands for each where the original is not there."""

from __future__ import annotations

from ProxyPromptSegmentLib.evaluation.paper.columns import (
    CUP,
    DISC,
    GLANDS,
    HEAD,
    NUCLEI,
    POLYP,
    PROSTATE,
    SYMPHYSIS,
    VESSEL,
)
from ProxyPromptSegmentLib.evaluation.paper.protocol import DataNeed

FUNDUS, ULTRASOUND = "fundus", "ultrasound"

REFUGE2 = DataNeed(
    original="refuge2",
    title="REFUGE2",
    stand_in="drishti_gs",
    objects={DISC: "optic disc", CUP: "optic cup"},
    modality=FUNDUS,
    samples="2000 images",
)
STARE = DataNeed(
    original="stare",
    title="STARE",
    stand_in="drive",
    objects={VESSEL: "vessel"},
    modality=FUNDUS,
    samples="20 images",
)
FPA = DataNeed(
    original="fh_ps_aop",
    title="FH-PS-AOP",
    stand_in="psfhs",
    objects={SYMPHYSIS: "pubic symphysis", HEAD: "fetal head"},
    modality=ULTRASOUND,
    samples="4000 images",
)
PROMISE12 = DataNeed(
    original="promise12",
    title="PROMISE12",
    stand_in="promise12",
    objects={PROSTATE: "prostate"},
    samples="50 volumes",
)
JNU_IFM = DataNeed(
    original="jnu_ifm",
    title="JNU-IFM",
    stand_in="ccaus_video",
    objects={SYMPHYSIS: "pubic symphysis", HEAD: "fetal head"},
    stand_in_objects={"carotid artery": "vessel"},
    samples="78 videos",
)
KVASIR = DataNeed(original="kvasir_seg", title="Kvasir-SEG", stand_in="kvasir_polyp", objects={POLYP: "polyp"})
CLINIC = DataNeed(
    original="cvc_clinicdb",
    title="CVC-ClinicDB",
    stand_in="endoscene",
    objects={POLYP: "polyp"},
    lent="kvasir_polyp",
)
COLON = DataNeed(
    original="cvc_colondb",
    title="CVC-ColonDB",
    stand_in="colondb",
    objects={POLYP: "polyp"},
    lent="kvasir_polyp",
)
ETIS = DataNeed(original="etis", title="ETIS-Larib", objects={POLYP: "polyp"})
MONUSEG = DataNeed(original="monuseg", title="MoNuSeg", stand_in="monuseg_nuclei", objects={NUCLEI: "nuclei"})
GLAS = DataNeed(original="glas", title="GlaS", stand_in="ebhi_gland_histo", objects={GLANDS: "glands"})

IMAGE_SETS = (REFUGE2, STARE, FPA)

ABDOMEN = DataNeed(
    title="AbdomenCT-1K",
    stand_in="curvas_ct_abdomen",
    objects={"liver": "liver", "kidneys": "kidneys"},
)
BRATS = DataNeed(
    title="BraTS",
    stand_in="brats2023_glioma",
    objects={"brain tumour": "necrotic/non-enhancing core + oedema + enhancing tumour"},
)
CHEST = DataNeed(title="Chest-XML", stand_in="montgomery_cxr", objects={"lungs": "lungs"})
OTHER_ABDOMEN = DataNeed(title="another CT set", stand_in="ircad_liver_ct", objects={"liver": "liver"})
OTHER_BRAINS = DataNeed(
    title="another glioma set",
    stand_in="utsw_t2_glioma",
    objects={"brain tumour": "necrotic/non-enhancing core + oedema + enhancing tumour"},
)
OTHER_CHESTS = DataNeed(title="another X-ray set", stand_in="shenzhen_cxr", objects={"lungs": "lungs"})
OTHER_POLYPS = DataNeed(
    title="another endoscopy set",
    stand_in="endoscene",
    objects={POLYP: "polyp"},
    lent="kvasir_polyp",
)
