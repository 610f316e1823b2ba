"""Of a header nothing leaves but the kept fields, coded, shifted or under pseudonyms."""

import json

import pytest
from pydicom.datadict import dictionary_VR, keyword_dict
from pydicom.dataset import Dataset

from tasks.archive import codes
from tasks.archive.deidentify import kept_facts
from tasks.archive.elements import quiet
from tasks.archive.kept import FACT_TYPES, KEPT_FIELDS
from tasks.archive.pseudonyms import Pseudonymiser
from tests.archive.made_dicom import header

NAMES = Pseudonymiser(bytes(range(32)))
TEXT_VRS = {
    "AE",
    "CS",
    "LO",
    "LT",
    "PN",
    "SH",
    "ST",
    "UC",
    "UT",
    "UI",
    "UR",
    "AS",
    "DA",
    "DT",
    "TM",
}


def _facts(**more) -> dict:
    with quiet():
        return kept_facts(header(**more), NAMES, NAMES.patient("P1", "here", ""))


def test_intervals_of_a_patient_are_kept():
    from datetime import date

    first, second = (_facts(StudyDate=day)["date"] for day in ("20200115", "20200301"))
    assert date.fromisoformat(second) - date.fromisoformat(first) == date(2020, 3, 1) - date(
        2020, 1, 15
    )
    assert first < "2020-01-15"


def test_kept_facts_are_the_kept_fields_with_their_types():
    facts = _facts(KVP="120", Manufacturer="SIEMENS", BurnedInAnnotation="NO")
    assert tuple(facts) == KEPT_FIELDS
    for name, value in facts.items():
        assert value is None or type(value) is FACT_TYPES[name]


def test_values_planted_in_every_text_element_do_not_leave():
    ds = Dataset()
    token = "Zyxwvu^Planted"
    with quiet():
        for keyword, tag in keyword_dict.items():
            if keyword and tag >> 16 > 2 and dictionary_VR(tag) in TEXT_VRS:
                setattr(ds, keyword, token)
        facts = kept_facts(ds, NAMES, "0" * 32)
    assert "zyxwvu" not in json.dumps(facts).lower()
    assert "planted" not in json.dumps(facts).lower()
    assert facts["modality"] == facts["model"] == facts["manufacturer"] == "other"


@pytest.mark.parametrize(
    "keyword", ["ManufacturerModelName", "ConvolutionKernel", "BodyPartExamined", "ViewPosition"]
)
@pytest.mark.parametrize(
    "text",
    ["Anna Mueller", "4711000815", "H100123", "Mueller", "m\u00fcller 1", "19700131", "x" * 80],
)
def test_free_text_becomes_other(keyword, text):
    facts = _facts(**{keyword: text})
    name = {
        "ManufacturerModelName": "model",
        "ConvolutionKernel": "kernel",
        "BodyPartExamined": "body_part",
        "ViewPosition": "view",
    }[keyword]
    assert facts[name] == "other"


def test_a_short_name_of_this_patient_is_no_model_and_no_kernel():
    facts = _facts(PatientName="Go^Max", ManufacturerModelName="Max", ConvolutionKernel="GO")
    assert (facts["model"], facts["kernel"]) == ("other", "other")


@pytest.mark.parametrize(
    ("text", "vendor"),
    [
        ("SIEMENS", "Siemens"),
        ("G.E. Medical Systems", "GE"),
        ("GE Healthcare", "GE"),
        ("FUJI PHOTO FILM Co., ltd.", "Fujifilm"),
        ("Agfa-Gevaert AG", "Agfa"),
        ("TOSHIBA_MEC", "Canon"),
        ("Geraldine", "other"),
        ("", None),
    ],
)
def test_a_vendor_has_one_name(text, vendor):
    assert codes.manufacturer(text) == vendor


@pytest.mark.parametrize(
    "text",
    ["Biograph40_mCT 4R", "Discovery XR656", "DXD40", "5501ES", "TrioTim", "Achieva dStream"],
)
def test_models_of_real_devices_are_kept(text):
    assert codes.model(text) == text


@pytest.mark.parametrize("text", ["Br38f", "STANDARD", "FC08", "B30s", "BONEPLUS", "L"])
def test_real_kernels_are_kept(text):
    assert codes.kernel(text) == text


@pytest.mark.parametrize(
    ("age", "birth", "band"),
    [
        ("042Y", None, "40-44"),
        ("006M", None, "0-4"),
        ("089Y", None, "85-89"),
        ("090Y", None, "90+"),
        ("107Y", None, "90+"),
        ("42", "19660101", "50-54"),
        (None, "20200201", None),
        ("old", None, None),
    ],
)
def test_ages_become_bands(age, birth, band):
    more = {"PatientAge": age} if age else {}
    if birth:
        more["PatientBirthDate"] = birth
    assert _facts(**more)["age_band"] == band


def test_numbers_that_are_no_measurement_are_dropped():
    facts = _facts(KVP="4711000815", MagneticFieldStrength="-1", SliceThickness="2.5")
    assert (facts["kvp"], facts["field_strength"], facts["slice_thickness"]) == (None, None, 2.5)


def test_device_and_site_are_pseudonyms():
    one = _facts(InstitutionName="Saint Planted", DeviceSerialNumber="SN1")
    two = _facts(InstitutionName="Saint Planted", DeviceSerialNumber="SN2")
    assert one["site"] == two["site"] == NAMES.key("site", "Saint Planted")
    assert one["device"] != two["device"]
    assert len(one["device"]) == 32


def test_contrast_is_told_from_silence():
    assert _facts()["contrast"] is None
    assert _facts(ContrastBolusAgent="")["contrast"] is False
    assert _facts(ContrastBolusAgent="NONE")["contrast"] is False
    assert _facts(ContrastBolusAgent="11 ml Omniscan")["contrast"] is True
