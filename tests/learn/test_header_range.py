from tasks.learn.header_range import outside, seen_headers

TRAINING = [
    {"manufacturer": "A", "slice_thickness": 1.0, "kernel": "B30", "kvp": None},
    {"manufacturer": "B", "slice_thickness": 2.0, "kernel": ""},
    {"manufacturer": "A", "slice_thickness": 1.5, "site": "ignored"},
]


def test_words_are_kept_each_once_and_numbers_as_their_range():
    assert seen_headers(TRAINING) == {
        "manufacturer": ["A", "B"],
        "kernel": ["B30"],
        "slice_thickness": [1.0, 2.0],
    }


def test_what_no_training_case_comes_near_is_named():
    seen = seen_headers(TRAINING)
    assert outside(seen, {"manufacturer": "C", "slice_thickness": 5.0, "kernel": "B30"}) == (
        "manufacturer",
        "slice_thickness",
    )
    assert outside(seen, TRAINING[1]) == ()


def test_a_number_a_tenth_beside_the_range_and_what_is_not_stated_are_no_strangers():
    seen = seen_headers(TRAINING)
    assert outside(seen, {"slice_thickness": 2.19}) == ()
    assert outside(seen, {"slice_thickness": 2.21}) == ("slice_thickness",)
    assert outside(seen, {"manufacturer": "", "kvp": 400.0}) == ()
    assert outside({}, {"manufacturer": "C"}) == ()


def test_a_sagittal_series_is_a_stranger_to_a_model_of_axial_ones():
    seen = seen_headers([{"axes": "SPL"}, {"axes": "IPL"}, {"axes": None}])
    assert seen == {"axes": ["IPL", "SPL"]}
    assert outside(seen, {"axes": "LSP"}) == ("axes",)
    assert outside(seen, {"axes": "IPL"}) == outside(seen, {"axes": None}) == ()
