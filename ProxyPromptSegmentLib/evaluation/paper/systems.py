"""The names under which rows of the papers' tables ask for systems.

Those of `evaluation.systems` have their own names there; what is listed here is made where trainings live, above the
evaluation.
"""

from __future__ import annotations

PROXY_PROMPT = "Proxy Prompt"
"""A new prompt generator and mask decoder on a frozen image encoder, learned from the few cases."""
AS_GIVEN = "model as given"
"""The model of ``--model`` with the same supports, without a training."""
ADAPTED = "model adapted to the few cases"
"""``proxyprompt adapt`` on the model of ``--model``."""
SURROGATE = "AutoSAM's own decoder"
"""The small decoder h of a model that prompts by the image."""
IMAGE_PROMPT = "AutoSAM, trained on a whole set"
MASK_OF_IMAGE_PROMPT = "SAM prompted with AutoSAM's mask"
MASK_OF_TRUTH = "SAM prompted with the true mask"
CLASS_PROMPT = "AutoMedSAM"
CLASS_TRAINED = "AutoMedSAM, trained on the sets of the table"
BOX_OF_TRUTH = "box around the truth"

SAM_POINT, SAM_BOX, SAM_EVERYTHING = "SAM, 1 point", "SAM, box", "SAM, everything"
MEDSAM_BOX = "MedSAM, box"
MED_SA_POINT, MED_SA_BOX = "Med-SA, 1 point", "Med-SA, box"
SAMED, AUTOSAM = "SAMed", "AutoSAM"
UNET, NNUNET, SPECIALIST = "U-Net", "nnU-Net", "specialist on all training cases"
SAM2_MASK, SAM2_BOX, SAM2_POINT = "SAM 2, mask", "SAM 2, box", "SAM 2, point"
MEDICAL_SAM2 = "Medical SAM 2"
MEAN_MASK = "copied mean mask"
