"""What a person can do about each reason of quarantine: one sentence a reason, all of them here.

The detail of a quarantine row says what was found in this very file or case; the sentence here
says what to do about the reason. A test reads the sources and asks that none is missing.
"""

from collections.abc import Mapping
from types import MappingProxyType

FAILED = "failed:"
"""Begins the reason of a case in which something failed that nobody foresaw; its name follows."""

_AGAIN = "then `radloop quarantine --retry`"

_FILES = {
    "empty_file": f"copy the file again from its source, {_AGAIN}",
    "file_changed": "ingest the source again: the file is not the one that was taken in",
    "file_missing": "mount the place or restore the file, then ingest the source again",
    "file_too_large": "split the file; single files of this size are not read into memory",
    "file_unreadable": f"check the file's permissions and its disk, {_AGAIN}",
    "not_a_regular_file": "nothing to do: pipes, sockets and devices are never opened",
    "undecodable_name": "rename the file: its name is no UTF-8 and could not be found again",
    "unreadable_file": f"check the file's permissions and its disk, {_AGAIN}",
    "unreadable_folder": "check the folder's permissions, then ingest the source again",
}

_ARCHIVES = {
    "archive_in_bucket": "unpack the archive in the bucket, or ingest a local copy of it",
    "damaged_archive": f"copy the archive again from its source, {_AGAIN}",
    "damaged_member": f"copy the archive again from its source, {_AGAIN}",
    "decompression_bomb": "ask who made the file: it unpacks to far more than any real image",
    "encrypted_member": "unpack the archive with its password and ingest the folder",
    "member_too_large": "unpack the archive and ingest the folder",
    "nested_archive": "unpack the inner archive and ingest the folder",
    "repeated_member": "ask who made the archive: it holds two members of one name",
    "unsafe_member_name": "ask who made the archive: a member's name leads out of it",
}

_HEADERS = {
    "dicomdir": "nothing to do: the files that the index lists are taken in themselves",
    "invalid_header": "ask the archive for the original object: its elements contradict each other",
    "invalid_series_uid": "ask the archive to send the series again with a valid UID",
    "invalid_sop_class": "ask the archive to send the object again with a valid SOP class",
    "invalid_sop_uid": "ask the archive to send the object again with a valid UID",
    "invalid_study_uid": "ask the archive to send the study again with a valid UID",
    "missing_matrix": "ask the archive for the original object: it states no rows or columns",
    "missing_sop_class": "ask the archive to send the object again with its SOP class",
    "missing_sop_uid": "ask the archive to send the object again with its UID",
    "nested_too_deep": "ask who made the file: no real object nests sequences so deep",
    "no_pixel_data": "ask the archive for the whole object: its pixels were cut or removed",
    "not_an_image": "nothing to do: reports, plans, overlays and segmentations are not volumes",
    "not_dicom": "nothing to do, unless it should be an image: then copy it again from its source",
    "sop_conflict": "ask the archive which content holds and remove the other file; both are kept",
    "truncated": f"copy the file again from its source, {_AGAIN}",
    "unreadable_header": "ask the archive for the original object: its header cannot be parsed",
}

_PIXELS = {
    "decoder_died": "ask the archive for the original object: its frames crash the decoder",
    "decoder_hung": "ask the archive for the original object, or try again on an idle machine",
    "invalid_shutter": "ask the archive for the original object: its shutter lacks its numbers",
    "invalid_rescale": "ask the archive for the original object: its rescale values mean nothing",
    "invalid_voi": "ask the archive for the original object: its window or LUT cannot be applied",
    "non_finite": "replace the voxels that are not numbers and ingest the file again",
    "not_grey": "nothing to do: only grey images, or ones with a luminance, become volumes",
    "too_large": "nothing to do: no image of this size is decoded",
    "undecodable": f"install a decoder for the transfer syntax in the detail, {_AGAIN}",
    "unsupported_bits": "export the image with 8 or 16 bits (or 32) a sample",
    "unsupported_photometric": "export the image in grey or RGB",
    "wrong_length": "ask the archive for the original object: its pixels do not fit its header",
}

_GEOMETRY = {
    "duplicate_positions": "remove the slices that stand twice and ingest the series again",
    "gantry_tilt": "begin the recipe with `straighten`, or export it with "
    "--straighten; never read as upright",
    "invalid_geometry": "ask the archive for the original series: its positions mean nothing",
    "localizer": "nothing to do: localizers are not part of a volume",
    "missing_position": "ask the archive for the original series: slices without a place",
    "missing_slices": "ask the archive for the whole series, then ingest it again",
    "mixed_frame_of_reference": "split the series: its slices lie in different coordinates",
    "mixed_matrix": "split the series: its slices have different sizes",
    "mixed_modality": "split the series: it holds different modalities",
    "mixed_orientation": "split the series: its slices are turned against each other",
    "mixed_spacing": "split the series: its slices have different pixel sizes",
    "mosaic_header": "ask the archive for the series with its private (0029) elements",
    "needs_4d_grouping": "split it into one volume a file or series; it holds several",
    "needs_multiframe": "export one image a file; these frames have no place of their own",
    "no_such_volume": "name one of the volumes in the detail under the scenario's "
    "cohort (docs/geometry.md)",
    "secondary_capture": "nothing to do: pictures of a screen are not part of a volume",
    "several_series": "narrow the `where` of that channel under the scenario's cohort, or say "
    "`several: finest`",
    "missing_channel": "take the channel out of `required` under the scenario's cohort, or ask for "
    "the series",
    "no_overlap": "say `align: rigid` under the cohort: by their headers they lie apart",
    "several_images": "write each with `radloop export`; a scenario reads one image a series",
    "several_volumes": "say which with `volume` under the scenario's cohort, or use "
    "`radloop export`",
    "sheared_affine": "resample the volume to a grid with right angles and ingest it again",
    "uneven_spacing": "ask for the whole series, or use the recipe step "
    "`straighten` or export --straighten",
    "unknown_space": "write the file with a space of LPS, RAS or LAS, or with none",
}

_OTHER_FORMATS = {
    "data_file_missing": "put the voxel file that the header names beside it and ingest again",
    "listed_file_missing": "put the listed files into the folder, or take them off its list",
    "not_listed": "ingest DICOM from a folder of its own, not from a Decathlon folder",
    "not_metaimage": "write the file again as MetaImage (MHA) with a current ITK",
    "not_nifti": "write the file again as NIfTI-1 or NIfTI-2",
    "not_nrrd": "write the file again as NRRD 0004 or 0005, raw or gzip",
    "not_picture": "export the picture again as PNG, JPEG or TIFF",
    "unreadable_nifti": "write the file again as NIfTI-1 or NIfTI-2",
    "unsupported_format": "list it in a radloop-images.csv (docs/formats.md), or "
    "ingest its dataset.json's folder",
    "unusable_rows": "correct the lines named in the detail and ingest the table again",
    "unusable_row": "correct this line of radloop-images.csv and ingest the folder again",
}

_LABELS_AND_RECIPES = {
    "box_outside": "give the boxes of this image, in the coordinates that the labels name",
    "constant_image": "look at the image: it shows nothing, or the crop before removed it all",
    "empty_mask": "look at the image: the step that makes this mask found nothing in it",
    "mask_grid": "look whether it is this image's mask, and export it on the image's own grid",
    "mask_labels": "export the mask with whole labels from 0 to 65535",
    "too_many_boxes": "leave the case out with `without` under the cohort, or mark fewer in it",
    "unknown_label": "name a class for each value, or labels.regions (brats2021, 2023, 2024), "
    "or mend it",
    "negative_values": "clip at 0 before it, or take log_compress out: this is no envelope",
    "no_bias_field": "give bias_correction a mask of tissue, or take the step out for such images",
    "no_foreground": "lower the threshold of the recipe's crop, or look at the image",
    "no_mask": "add the mask to the label set, or take the case out of the cohort",
    "no_patient_axes": "take reorient out of the recipe, or the cine out of the cohort",
    "no_region": "add the step that makes the mask before features, or look at the image",
    "no_such_mask": "name a mask that an earlier step of the recipe makes",
    "no_window": "give the window's level and width in the recipe: the file states none",
    "not_finite": "correct the recipe: it made values that are not finite",
    "out_of_memory": f"set RADLOOP_WORKERS lower, so that each has more memory, {_AGAIN}",
    "out_of_range": "clip before storing integers, or store float32",
    "region_too_small": "choose fewer hog_cells, or look at the mask",
    "registration_failed": "look at both series side by side, or take one out of the case",
    "resample_too_large": "choose a larger spacing in the recipe",
    "too_large_for_workers": "set RADLOOP_WORKERS lower; the next run then takes it up by itself",
    "too_many_levels": "choose a larger bin_width or a narrower resegment in the recipe",
    "wrong_dtype": "correct the recipe: it made another type than the part holds",
    "wrong_mask": "correct the recipe's step: a mask is uint8, on its image's grid, plainly named",
    "wrong_shape": "correct the recipe: it made another shape than the part holds",
}

_MASKS = {
    "body_implausible": "look at the image, or take the case out: no body was found in it",
    "bone_implausible": "run bone before steps that change HU, or lower its thresholds",
    "brain_implausible": "take the mask from a network (HD-BET), or the case out of the cohort",
    "breast_implausible": "check that air is dark in the image, or take the case out",
    "empty_mask": "look at the image: the step before found nothing to cut, split or keep",
    "field_implausible": "take the step collimation out of the recipe, or look at the image",
    "lung_implausible": "run lung on a chest CT and before steps that change HU",
    "no_such_mask": "correct the recipe: name a mask that an earlier step makes",
    "too_many_parts": "raise apart_mm of watershed, or clean the mask before",
    "wrong_modality": "take the case out of the cohort: the recipe's step is for another modality",
}

_OUTLINES = {
    "not_a_mask": "export the mask as one .nii.gz, .nrrd, .mha or .seg.nrrd file with its values",
    "not_a_segmentation": "export the segmentation again as DICOM SEG of a volume",
    "not_a_structure_set": "export the structure set again: its outlines are damaged or too many",
    "outline_off_plane": "draw the outline on the slices of its own series, or export a mask",
    "outline_open": "close the outline, or leave the structure out",
    "not_of_this_series": "give the XML of LIDC that belongs to this series, downloaded anew",
    "segment_missing": "draw it, or name it in labels.segments, or its class in labels.absent",
    "segment_repeated": "rename or remove one of the two segments in the tool that wrote them",
    "segments_overlap": "choose ones that do not overlap, or say `overlap: later` of the labels",
    "segments_swapped": "tell the classes by name with labels.segments, or mend the file's labels",
    "uneven_segmentation": "export the segmentation on the whole grid of its series",
}
"""Of masks and outlines in formats of other tools."""

_RESULTS = {
    "not_a_result": "give what `radloop predict` of this release wrote: this is something else",
    "other_accession": "look for the right images: these have another accession",
    "other_images": "look for the right images: the result names others",
    "other_patient": "look for the right images: these are of another patient",
    "other_sex": "look for the right images: their patient's sex is another",
    "other_study": "look for the right images: these are of another study, or name none",
}
"""Of results that are to be given back to their patients (`reidentify`)."""

REMEDIES: Mapping[str, str] = MappingProxyType(
    _FILES
    | _ARCHIVES
    | _HEADERS
    | _PIXELS
    | _GEOMETRY
    | _OTHER_FORMATS
    | _LABELS_AND_RECIPES
    | _MASKS
    | _OUTLINES
    | _RESULTS
)
"""Reason -> what a person can do, as half a sentence without a full stop."""


def remedy(reason: str) -> str | None:
    """Return what a person can do about a reason, or None for one nobody knows.

    Parameters
    ----------
    reason : str
        As in a quarantine row; ``failed:<name of the error>`` stands for all of its kind.
    """
    if reason.startswith(FAILED):
        return "report it with the command's --verbose output: it is an error of radloop"
    return REMEDIES.get(reason)
