"""Settings by task and size. `tiny`: two CPU cores, minutes. `default`: for one GPU and an hour or two. `full`: at the
size of published work; of the paper only the abstract was at hand, so the numbers are ours. `default` and `full` were
never run to their end so far. Their batches can be shared evenly by 1, 2, 4 or 8 GPUs. What a preset does not name
keeps the default of its dataclass."""

PRESETS = {
    ("skin", "tiny"): {
        "data": {"size": 96},
        "model": {"features": [16, 32, 64, 128, 128], "code_dim": 64, "projection_dim": 64},
        "autoencoder": {"steps": 200, "batch_size": 16, "validate_every": 50, "log_every": 10},
        "cluster": {"n_clusters": 10},
        "pretrain": {"steps": 100, "batch_size": 32, "lr": 2e-3, "validate_every": 50, "log_every": 10},
        "finetune": {"steps": 400, "batch_size": 8, "lr": 1e-3, "validate_every": 50, "log_every": 10},
    },
    ("heart", "tiny"): {
        "data": {"spacing": [3.0, 3.0, 3.0], "patch": [64, 64, 32]},
        "model": {"features": [8, 16, 32, 64, 128], "code_dim": 64, "projection_dim": 64},
        "autoencoder": {"steps": 100, "batch_size": 4, "lr": 2e-3, "validate_every": 50, "log_every": 10},
        "cluster": {"n_clusters": 10},
        "pretrain": {"steps": 80, "batch_size": 8, "lr": 2e-3, "validate_every": 40, "log_every": 10},
        "finetune": {
            "steps": 500,
            "batch_size": 2,
            "lr": 4e-3,
            "validate_every": 125,
            "log_every": 10,
            "augment": 0.3,
        },
        "evaluation": {"overlap": 0.25},
    },
    ("skin", "default"): {
        "data": {"size": 256},
        "model": {"features": [32, 64, 128, 256, 320]},
        "autoencoder": {"steps": 10_000, "batch_size": 32},
        "pretrain": {"steps": 20_000, "batch_size": 128},
        "finetune": {"steps": 10_000, "batch_size": 16, "lr": 5e-4},
    },
    ("heart", "default"): {
        "data": {"spacing": [1.5, 1.5, 1.5], "patch": [96, 96, 96]},
        "model": {"features": [32, 64, 128, 256, 320]},
        "autoencoder": {"steps": 3_000, "batch_size": 8},
        "pretrain": {"steps": 10_000, "batch_size": 16},
        "finetune": {"steps": 5_000, "batch_size": 8, "lr": 1e-3},
    },
    ("skin", "full"): {
        "data": {"size": 512},
        "model": {"features": [32, 64, 128, 256, 512, 512]},
        "autoencoder": {"steps": 30_000, "batch_size": 32},
        "pretrain": {"steps": 60_000, "batch_size": 256},
        "finetune": {"steps": 40_000, "batch_size": 16, "lr": 5e-4, "validate_every": 1_000},
    },
    ("heart", "full"): {
        "data": {"spacing": [1.0, 1.0, 1.0], "patch": [128, 128, 128]},
        "model": {"features": [32, 64, 128, 256, 320, 320]},
        "autoencoder": {"steps": 10_000, "batch_size": 8},
        "pretrain": {"steps": 40_000, "batch_size": 32},
        "finetune": {"steps": 15_000, "batch_size": 8, "lr": 1e-3, "validate_every": 1_000},
    },
}
