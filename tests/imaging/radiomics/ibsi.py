"""The IBSI digital phantom and the values that the manual publishes for it.

Zwanenburg et al., The image biomarker standardisation initiative, reference manual
(arXiv:1612.07003v11), chapter 5 and the benchmark tables of chapter 3; the phantom is also at
github.com/theibsi/data_sets (CC BY 4.0).
"""

import numpy as np

from tasks.imaging.step import Image

OUT = 0
"""Stands for the six voxels outside the region; the manual shows them in blue."""

VOXELS = (
    ((1, 4, 4, 1, 1), (1, 4, 6, 1, 1), (4, 1, 6, 4, 1), (4, 4, 6, 4, 1)),
    ((1, 4, 4, 1, 1), (1, 1, 6, 1, 1), (OUT, 1, 3, 1, 1), (4, 4, 6, 1, 1)),
    ((1, 4, 4, OUT, OUT), (1, 1, 1, 1, 1), (1, 1, OUT, 1, 1), (1, 1, 6, 1, 1)),
    ((1, 4, 4, OUT, OUT), (1, 1, 1, 1, 1), (1, 1, 1, 1, 1), (1, 1, 6, 1, 1)),
)
"""Intensities (z, y, x) = (4, 4, 5) of voxels of 2 x 2 x 2 mm."""

OUTSIDE = 9
"""Intensity put outside the region: an implementation that looked there would be wrong."""


def digital_phantom() -> Image:
    """Return the phantom with its region as the mask ``roi``."""
    array = np.array(VOXELS)
    mask = (array != OUT).astype(np.uint8)
    array[mask == 0] = OUTSIDE
    return Image(array, np.diag([2.0, 2.0, 2.0, 1.0]), {"roi": mask})


INTENSITY = {
    "mean": 2.15,
    "variance": 3.05,
    "skewness": 1.08,
    "kurtosis": -0.355,
    "median": 1,
    "minimum": 1,
    "percentile_10": 1,
    "percentile_90": 4,
    "maximum": 6,
    "interquartile_range": 3,
    "range": 5,
    "mean_absolute_deviation": 1.55,
    "robust_mean_absolute_deviation": 1.11,
    "median_absolute_deviation": 1.15,
    "coefficient_of_variation": 0.812,
    "quartile_coefficient_of_dispersion": 0.6,
    "energy": 567,
    "root_mean_square": 2.77,
}
"""Intensity statistics, without tolerance: they agree to three digits."""

HISTOGRAM = {
    **{
        name: value
        for name, value in INTENSITY.items()
        if name not in ("energy", "root_mean_square")
    },
    "mode": 1,
    "entropy": 1.27,
    "uniformity": 0.512,
    "maximum_gradient": 8,
    "maximum_gradient_level": 3,
    "minimum_gradient": -50,
    "minimum_gradient_level": 1,
}
"""Intensity histogram: the grey levels are the intensities, so its moments are theirs."""

SHAPE = {
    "volume": (556, 4),
    "voxel_volume": (592, 4),
    "surface_area": (388, 3),
    "surface_to_volume_ratio": (0.698, 0.004),
    "compactness_1": (0.0411, 0.0003),
    "compactness_2": (0.599, 0.004),
    "spherical_disproportion": (1.19, 0.01),
    "sphericity": (0.843, 0.005),
    "asphericity": (0.186, 0.001),
    "centre_of_mass_shift": (0.672, 0.004),
    "maximum_3d_diameter": (13.1, 0.1),
    "major_axis_length": (11.4, 0.1),
    "minor_axis_length": (9.31, 0.06),
    "least_axis_length": (8.54, 0.05),
    "elongation": (0.816, 0.005),
    "flatness": (0.749, 0.005),
    "volume_density_box": (0.869, 0.005),
    "area_density_box": (0.866, 0.005),
    "volume_density_ellipsoid": (1.17, 0.01),
    "area_density_ellipsoid": (1.36, 0.01),
    "volume_density_hull": (0.961, 0.006),
    "area_density_hull": (1.03, 0.01),
    "integrated_intensity": (1200, 10),
}
"""Morphology: value and the manual's tolerance."""

AGGREGATIONS = (
    "2d_averaged",
    "2d_slice_merged",
    "2.5d_direction_merged",
    "2.5d_merged",
    "3d_averaged",
    "3d_merged",
)

GLCM = {
    "joint_maximum": (0.519, 0.512, 0.489, 0.492, 0.503, 0.509),
    "joint_average": (2.14, 2.14, 2.2, 2.2, 2.14, 2.15),
    "joint_variance": (2.69, 2.71, 3.22, 3.24, 3.1, 3.13),
    "joint_entropy": (2.05, 2.24, 2.48, 2.61, 2.4, 2.57),
    "difference_average": (1.42, 1.4, 1.46, 1.44, 1.43, 1.38),
    "difference_variance": (2.9, 3.06, 3.11, 3.23, 3.06, 3.21),
    "difference_entropy": (1.4, 1.49, 1.61, 1.67, 1.56, 1.64),
    "sum_average": (4.28, 4.29, 4.41, 4.41, 4.29, 4.3),
    "sum_variance": (5.47, 5.66, 7.48, 7.65, 7.07, 7.41),
    "sum_entropy": (1.6, 1.79, 2.01, 2.14, 1.92, 2.11),
    "angular_second_moment": (0.368, 0.352, 0.286, 0.277, 0.303, 0.291),
    "contrast": (5.28, 5.19, 5.39, 5.29, 5.32, 5.12),
    "dissimilarity": (1.42, 1.4, 1.46, 1.44, 1.43, 1.38),
    "inverse_difference": (0.678, 0.683, 0.668, 0.673, 0.677, 0.688),
    "normalised_inverse_difference": (0.851, 0.854, 0.847, 0.85, 0.851, 0.856),
    "inverse_difference_moment": (0.619, 0.625, 0.606, 0.613, 0.618, 0.631),
    "normalised_inverse_difference_moment": (0.899, 0.901, 0.897, 0.899, 0.898, 0.902),
    "inverse_variance": (0.0567, 0.0553, 0.0597, 0.0582, 0.0604, 0.0574),
    "correlation": (-0.0121, 0.0173, 0.178, 0.182, 0.157, 0.183),
    "autocorrelation": (5.09, 5.14, 5.4, 5.45, 5.06, 5.19),
    "cluster_tendency": (5.47, 5.66, 7.48, 7.65, 7.07, 7.41),
    "cluster_shade": (7, 6.98, 16.6, 16.4, 16.6, 17.4),
    "cluster_prominence": (79.1, 80.4, 147, 142, 145, 147),
    "information_correlation_1": (-0.155, -0.0341, -0.124, -0.0334, -0.157, -0.0288),
    "information_correlation_2": (0.487, 0.263, 0.487, 0.291, 0.52, 0.269),
}
"""Co-occurrence at distance 1 in the order of `AGGREGATIONS`, without tolerance."""

RUNS_AND_ZONES = {
    "rlm_sre_3d_v_mrg": 0.729,
    "rlm_lre_3d_v_mrg": 2.76,
    "rlm_lgre_3d_v_mrg": 0.607,
    "rlm_hgre_3d_v_mrg": 9.64,
    "rlm_srlge_3d_v_mrg": 0.372,
    "rlm_srhge_3d_v_mrg": 8.67,
    "rlm_lrlge_3d_v_mrg": 2.16,
    "rlm_lrhge_3d_v_mrg": 15.6,
    "rlm_glnu_3d_v_mrg": 281,
    "rlm_glnu_norm_3d_v_mrg": 0.43,
    "rlm_rlnu_3d_v_mrg": 328,
    "rlm_rlnu_norm_3d_v_mrg": 0.501,
    "rlm_r_perc_3d_v_mrg": 0.68,
    "rlm_gl_var_3d_v_mrg": 3.48,
    "rlm_rl_var_3d_v_mrg": 0.598,
    "rlm_rl_entr_3d_v_mrg": 2.62,
    "szm_sze_3d": 0.255,
    "szm_lze_3d": 550,
    "szm_lgze_3d": 0.253,
    "szm_hgze_3d": 15.6,
    "szm_szlge_3d": 0.0256,
    "szm_szhge_3d": 2.76,
    "szm_lzlge_3d": 503,
    "szm_lzhge_3d": 1490,
    "szm_glnu_3d": 1.4,
    "szm_glnu_norm_3d": 0.28,
    "szm_zsnu_3d": 1,
    "szm_zsnu_norm_3d": 0.2,
    "szm_z_perc_3d": 0.0676,
    "szm_gl_var_3d": 2.64,
    "szm_zs_var_3d": 331,
    "szm_zs_entr_3d": 2.32,
    "dzm_sde_3d": 1,
    "dzm_lde_3d": 1,
    "dzm_lgze_3d": 0.253,
    "dzm_hgze_3d": 15.6,
    "dzm_sdlge_3d": 0.253,
    "dzm_sdhge_3d": 15.6,
    "dzm_ldlge_3d": 0.253,
    "dzm_ldhge_3d": 15.6,
    "dzm_glnu_3d": 1.4,
    "dzm_glnu_norm_3d": 0.28,
    "dzm_zdnu_3d": 5,
    "dzm_zdnu_norm_3d": 1,
    "dzm_z_perc_3d": 0.0676,
    "dzm_gl_var_3d": 2.64,
    "dzm_zd_var_3d": 0,
    "dzm_zd_entr_3d": 1.92,
    "ngt_coarseness_3d": 0.0296,
    "ngt_contrast_3d": 0.584,
    "ngt_busyness_3d": 6.54,
    "ngt_complexity_3d": 13.5,
    "ngt_strength_3d": 0.763,
    "ngl_lde_d1_a0.0_3d": 0.045,
    "ngl_hde_d1_a0.0_3d": 109,
    "ngl_lgce_d1_a0.0_3d": 0.693,
    "ngl_hgce_d1_a0.0_3d": 7.66,
    "ngl_ldlge_d1_a0.0_3d": 0.00963,
    "ngl_ldhge_d1_a0.0_3d": 0.736,
    "ngl_hdlge_d1_a0.0_3d": 102,
    "ngl_hdhge_d1_a0.0_3d": 235,
    "ngl_glnu_d1_a0.0_3d": 37.9,
    "ngl_glnu_norm_d1_a0.0_3d": 0.512,
    "ngl_dcnu_d1_a0.0_3d": 4.86,
    "ngl_dcnu_norm_d1_a0.0_3d": 0.0657,
    "ngl_dc_perc_d1_a0.0_3d": 1,
    "ngl_gl_var_d1_a0.0_3d": 3.05,
    "ngl_dc_var_d1_a0.0_3d": 22.1,
    "ngl_dc_entr_d1_a0.0_3d": 4.4,
    "ngl_dc_energy_d1_a0.0_3d": 0.0533,
}
"""Run length, size zone, distance zone, grey tone and dependence matrices in space, merged, by the
names mirp gives them."""
