"""Free text of headers to codes: what is on no list does not leave the archive wing.

The lists are defined terms of PS3.3 and PS3.16, and words of vendors' products; text outside them
becomes ``"other"``, which says that something stood there and not what.
"""

import re
import unicodedata
from collections.abc import Collection

from pydicom.config import IGNORE
from pydicom.uid import UID

OTHER = "other"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MODALITIES = _words(
    """
    AU BDUS BI BMD CR CT CTPROTOCOL DG DX ECG EPS ES GM HD IO IVOCT IVUS LS MG MR NM OAM OCT OP
    OPM OPT OPTBSV OPTENF OPV OSS OT PA POS PT PX RF RG RTIMAGE SC SM SMR SRF TG US VA XA XC
    """
)
"""PS3.3 C.7.3.1.1.1, the image-bearing terms."""

BODY_PARTS = _words(
    """
    ABDOMEN ABDOMENPELVIS ADRENAL ANKLE AORTA ARM AXILLA BACK BLADDER BRAIN BREAST BRONCHUS
    BUTTOCK CALCANEUS CALF CAROTID CEREBELLUM CERVIX CHEEK CHEST CHESTABDOMEN CHESTABDPELVIS
    CIRCLEOFWILLIS CLAVICLE COCCYX COLON CORNEA CORONARYARTERY CSPINE CTSPINE DUODENUM EAR ELBOW
    ESOPHAGUS EXTREMITY EYE EYELID FACE FEMUR FINGER FOOT GALLBLADDER HAND HEAD HEADNECK HEART
    HIP HIPPOCAMPUS HUMERUS ILEUM ILIUM JAW JEJUNUM KIDNEY KNEE LARYNX LEG LIVER LSPINE LSSPINE
    LUNG MAXILLA MEDIASTINUM MOUTH NECK NECKCHEST NECKCHESTABDOMEN NECKCHESTABDPELV NOSE ORBIT
    OVARY PANCREAS PARATHYROID PAROTID PARTIALBODY PATELLA PELVIS PELVISLOWEXTREMT PENIS PHARYNX
    PROSTATE RADIUS RADIUSULNA RECTUM RIB SACRUM SCALP SCAPULA SCLERA SCROTUM SHOULDER SKULL
    SPINE SPLEEN SSPINE STERNUM STOMACH SUBMANDIBULAR TAIL TESTIS THIGH THUMB THYMUS THYROID
    TIBIA TIBIAFIBULA TLSPINE TMJ TOE TONGUE TRACHEA TSPINE UPPERARM URETER URETHRA UTERUS
    VAGINA VULVA WHOLEBODY WRIST ZYGOMA
    """
)
"""PS3.16 Annex L, compared without spaces; terms of PS3.16 and their joins."""

_BODY_PART_WORDS = {
    "THORAX": "CHEST",
    "SCHAEDEL": "SKULL",
    "BREAST,L": "BREAST",
    "CERVICALSPINE": "CSPINE",
    "THORACICSPINE": "TSPINE",
    "LUMBARSPINE": "LSPINE",
    "HEADANDNECK": "HEADNECK",
    "LOWERLEG": "LEG",
    "FOREARM": "RADIUSULNA",
}

VIEWS = _words(
    """
    AP PA LL RL RLD LLD RLO LLO LATERAL LAT OBLIQUE AXIAL TANGENTIAL ML MLO LM LMO CC ISO FB SIO
    CV XCC XCCL XCCM
    """
)
"""PS3.3 C.8.7.1 and C.8.11.4.1.1."""

PHOTOMETRIC = frozenset({"PALETTE COLOR"}) | _words(
    """
    MONOCHROME1 MONOCHROME2 RGB HSV ARGB CMYK YBR_FULL YBR_FULL_422 YBR_PARTIAL_422 YBR_PARTIAL_420
    YBR_ICT YBR_RCT XYB
    """
)
"""PS3.3 C.7.6.3.1.2."""

IMAGE_TYPES = frozenset({"PROJECTION IMAGE", "WHOLE BODY", "CSA MPR", "SINGLE PLANE"}) | _words(
    """
    ORIGINAL DERIVED PRIMARY SECONDARY MIXED OTHER NONE NORMAL PLAIN AXIAL LOCALIZER VOLUME
    REFORMATTED RESAMPLED MULTIPLANAR MPR CPR MIP MINIP MAX MIN MEAN MEDIAN AVERAGE SUM ADDITION
    SUBTRACTION DIVISION MULTIPLICATION FILTERED VOLUME_RENDER RENDERED PROJECTION SCOUT TOPOGRAM
    MONO_KEV MAT_SPECIFIC MAT_REMOVED MAT_FRACTIONAL EFF_ATOMIC_NUM ELECTRON_DENSITY MAT_MODIFIED
    MAT_VALUE_BASED VMI VNC IODINE WATER FAT IN_PHASE OUT_PHASE OPP_PHASE OP IP W F FF R2_STAR
    M P R I M_FFE M_SE M_IR P_FFE P_SE R_FFE I_FFE PHASE MAGNITUDE REAL IMAGINARY MODULUS
    M_PCA P_PCA FFE SE IR PCA VELOCITY PHASE_MAP FIELD_MAP B0 B1 ND DIS2D DIS3D NORM MOSAIC
    DIFFUSION TRACEW TRACE ADC EADC FA ISOTROPIC TENSOR COLFA EXPONENTIAL_ADC DWI
    PERFUSION PERFUSION_MAP RCBF RCBV CBF CBV MTT TTP TMAX PBP ASL FMRI T_TEST Z_SCORE
    T1 T2 T2_STAR PROTON_DENSITY T1_MAP T2_MAP T2_STAR_MAP R1_MAP R2_MAP SWI SWI_MIP QSM
    ANGIO ANGIO_TIME TOF CINE FLOW_ENCODED SPECTROSCOPY STRUCTURE STRESS REST DYNAMIC STATIC
    GATED EMISSION TRANSMISSION TOMO RECON ATTENUATION UNCORRECTED CSAPARALLEL BIPLANE
    MOTIONCORRECTION MOCO COMPOSED COMP_SP CSA CSAIMAGE FM1 FM2 FM3 FM4 ECHO_00
    GENERATED_2D TOMO_2D TOMO_PROJ STEREO OBSTETRICAL ABDOMINAL CARDIOLOGY VASCULAR EPICARDIAL
    TEE PORTAL BREAST UROLOGY GYNECOLOGY MUSCULOSKELETAL
    """
)
"""Words of Image Type and Frame Type: PS3.3 C.7.6.1.1.2, C.8.2.1.1.1, C.8.3.1.1.1, C.8.4.9.1.1,
C.8.5.6.1.1, C.8.7.1.1.1, C.8.13.3.1.1, C.8.15.2.1.1, C.8.16.1; and words of vendors' scanners."""

PRESENTATION = frozenset({"FOR PRESENTATION", "FOR PROCESSING"})
SEQUENCES = ("SE", "IR", "GR", "EP", "RM")
"""Scanning sequences (PS3.3 C.8.3.1.1.1), in the order in which several are written."""

_VENDORS = (
    ("Siemens", "siemens|healthineers"),
    ("GE", r"\bg\.?e\.?\b|general electric|gehc|gems"),
    ("Philips", "philips|adac|marconi|picker"),
    ("Canon", "canon|toshiba"),
    ("Agfa", "agfa"),
    ("Fujifilm", "fuji"),
    ("Carestream", "carestream|kodak"),
    ("Hologic", "hologic|lorad"),
    ("Hitachi", "hitachi"),
    ("Samsung", "samsung|medison|neurologica"),
    ("Konica Minolta", "konica|minolta"),
    ("Shimadzu", "shimadzu"),
    ("United Imaging", "united imaging|^uih"),
    ("Neusoft", "neusoft"),
    ("Mindray", "mindray"),
    ("Esaote", "esaote"),
    ("SonoSite", "sonosite"),
    ("Varian", "varian"),
    ("Elekta", "elekta"),
    ("Accuray", "accuray"),
    ("Planmeca", "planme[cd]"),
    ("Sectra", "sectra"),
    ("Swissray", "swissray"),
    ("DRGEM", "drgem"),
    ("Del Medical", "del medical"),
    ("Ziehm", "ziehm"),
    ("Bruker", "bruker"),
    ("Hyperfine", "hyperfine"),
    ("Analogic", "analogic"),
    ("Dentsply Sirona", "sirona"),
)
_VENDORS_COMPILED = tuple((name, re.compile(text, re.IGNORECASE)) for name, text in _VENDORS)

_MODEL_WORDS = _words(
    """
    somatom definition force drive edge sensation emotion perspective confidence scope spirit go
    up now all top sim as flash plus dual naeotom alpha peak biograph mct vision horizon
    symphony sonata avanto aera skyra prisma vida sola altea lumina free max verio trio triotim
    espree essenza magnetom harmony expert fit cima terra allegra mammomat inspiration
    revelation novation fluorospot compact fd ysio multix fusion impact axiom aristos luminos
    artis zee zeego icono pheno mobilett mira acuson sequoia antares juniper sc discovery optima
    revolution lightspeed brightspeed hispeed prospeed signa excite infinity hdx hdxt echospeed
    artist premier architect pioneer voyager creator explorer evo apex maxima ascend frontier
    ultra pro senographe pristina essential ds definium logiq vivid voluson innova millennium mg
    vct ct mr pet xr amx brivo iq lunar prodigy idxa genesis jupiter system achieva ingenia
    intera ambition elition dstream tx gyroscan nt panorama ohio brilliance big bore ict
    ingenuity iqon spectral incisive mx tf flex gemini vereos digitaldiagnost essenta dr epiq
    affiniti sparq allura xper azurion microdose juno dura pcr eleva corevision aquilion one
    prime lb lightning start vantage titan orian galan centurian elan aplio xario asteion
    alexion activion radrex ultimax infinix fcr fdr xg profect velocity amulet innovality
    synapse visionary suite console advance acuity nano adc cr dx dxd dx-d drx evolution
    transportable classicon directview selenia dimensions lorad affirm fluoroscan supria
    scenaria eclos oasis echelon aperto airis presto grande oval turbo maestro halcyon truebeam
    trilogy onrad regius aero
    """
)
"""Words of product names; a model of other words could be anybody's note."""

_MODEL_TOKEN = re.compile(r"[a-z]{0,9}-?\d{1,4}(?:\.\d{1,2})?[a-z]{0,5}", re.IGNORECASE)
"""Letters round at most four digits: DXD40, 5501ES, 1.5T; longer runs are serial numbers or ids."""

_KERNEL_WORDS = _words(
    """
    standard std soft smooth detail bone boneplus bone+ lung chest chst edge ultra sharp medium
    medsmooth ultrasharp brain body head thorax abdomen vascular cardiac stnd detl plus
    """
)
_KERNEL_TOKEN = re.compile(r"[A-Z]{1,3}\d{0,3}[a-z]{0,2}(?:\\\d)?", re.IGNORECASE)
"""Br38f, B30s, FC08, Qr40, L, YA: a letter code with at most three digits."""

_PLAIN = re.compile(r"[A-Za-z0-9 +\-_.]{1,32}")
MAX_KERNEL = 16


def term(text: str, allowed: Collection[str]) -> str | None:
    """Return a defined term as it stands in the list, ``"other"``, or None for no text."""
    wanted = " ".join(text.upper().split())
    if not wanted:
        return None
    return wanted if wanted in allowed else OTHER


def transfer_syntax(text: str) -> str | None:
    """Return the UID of a transfer syntax of the standard, ``"other"``, or None for no text."""
    if not text:
        return None
    # Not validated: pydicom's warning would quote what is no UID at all.
    uid = UID(text, validation_mode=IGNORE)
    return text if uid.is_transfer_syntax and not uid.is_private else OTHER


def body_part(text: str) -> str | None:
    """Return the defined term of a body part without spaces, ``"other"``, or None."""
    wanted = re.sub(r"[\s_\-]+", "", text.upper())
    return term(_BODY_PART_WORDS.get(wanted, wanted), BODY_PARTS)


def manufacturer(text: str) -> str | None:
    """Return the vendor's one name for its many spellings, ``"other"``, or None."""
    if not text.strip():
        return None
    for name, pattern in _VENDORS_COMPILED:
        if pattern.search(text):
            return name
    return OTHER


def model(text: str, identities: Collection[str] = ()) -> str | None:
    """Return a model made of known product words and short codes, ``"other"``, or None."""
    return _coded(text, _MODEL_WORDS, _MODEL_TOKEN, identities)


def kernel(text: str, identities: Collection[str] = ()) -> str | None:
    """Return a reconstruction kernel that is a letter code or a known word."""
    if len(text) > MAX_KERNEL or text.replace(".", "").isdigit():
        return OTHER
    return _coded(text, _KERNEL_WORDS, _KERNEL_TOKEN, identities)


def _coded(
    text: str, words: Collection[str], token: re.Pattern, identities: Collection[str]
) -> str | None:
    text = " ".join(text.split())
    if not text:
        return None
    if not _PLAIN.fullmatch(text):
        return OTHER
    parts = [part for part in re.split(r"[ _]", text) if part]
    known = all(part.lower() in words or token.fullmatch(part) for part in parts)
    # A short surname is a letter code as well: nothing that names this patient may pass.
    named = {piece.lower() for part in parts for piece in (part, *part.split("-"))} & set(
        identities
    )
    return text if known and not named else OTHER


def identity_words(values: Collection[str]) -> frozenset[str]:
    """Return the words, of two letters or more, of names and ids that must appear nowhere."""
    words = (
        word
        for value in values
        for word in re.split(r"[\W_]+", unicodedata.normalize("NFKC", value).lower())
    )
    return frozenset(word for word in words if len(word) > 1)
