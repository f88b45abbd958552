"""Plans of nnU-Net for a tiny network and two channels, as its own planner would write them."""

from __future__ import annotations

CONV = [[3, 3, 3]] * 2
ARCHITECTURE = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "arch_kwargs": {
        "n_stages": 2,
        "features_per_stage": [4, 8],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": CONV,
        "strides": [[1, 1, 1], [2, 2, 2]],
        "n_conv_per_stage": [1, 1],
        "n_conv_per_stage_decoder": [1],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    },
    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
}
SEPARATE = {"force_separate_z": None, "order_z": 0}
CONFIGURATION = {
    "data_identifier": "tiny_3d",
    "preprocessor_name": "DefaultPreprocessor",
    "batch_size": 2,
    "patch_size": [8, 16, 16],
    "median_image_size_in_voxels": [12, 18, 20],
    "spacing": [2.0, 0.8, 0.8],
    "normalization_schemes": ["CTNormalization", "ZScoreNormalization"],
    "use_mask_for_norm": [False, False],
    **{f"resampling_fn_{kind}": "resample_data_or_seg_to_shape" for kind in ("data", "seg", "probabilities")},
    "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, **SEPARATE},
    "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, **SEPARATE},
    "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, **SEPARATE},
    "architecture": ARCHITECTURE,
    "batch_dice": False,
}
INTENSITY = {"mean": 10.0, "std": 300.0, "percentile_00_5": -800.0, "percentile_99_5": 800.0}
PLANS = {
    "dataset_name": "Dataset001_Tiny",
    "plans_name": "nnUNetPlans",
    "original_median_spacing_after_transp": [2.5, 0.7, 0.9],
    "original_median_shape_after_transp": [9, 18, 17],
    "image_reader_writer": "SimpleITKIO",
    "transpose_forward": [0, 1, 2],
    "transpose_backward": [0, 1, 2],
    "configurations": {"3d_fullres": CONFIGURATION},
    "experiment_planner_used": "ExperimentPlanner",
    "label_manager": "LabelManager",
    "foreground_intensity_properties_per_channel": {"0": INTENSITY, "1": INTENSITY},
}
