//! What Shi et al. published, and measured in the logs of their repository: VGG-16 on CIFAR-10.

use split_core::Manifest;

/// Accuracy of their unpruned network in percent.
pub const UNPRUNED_ACCURACY: f64 = 92.38;
/// Accuracy of their network after step 1 in percent.
pub const STEP1_ACCURACY: f64 = 87.67;
/// Multiply–accumulates of their unpruned network, in millions.
pub const UNPRUNED_MMACS: f64 = 313.2;
/// Multiply–accumulates of their network after step 1, in millions.
pub const STEP1_MMACS: f64 = 56.5;

/// One of their split points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// The layer after which they split.
    pub split: &'static str,
    /// Elements that cross in the unpruned network.
    pub unpruned: u32,
    /// Elements that cross after step 1.
    pub step1: u32,
    /// Elements that cross after step 2.
    pub step2: u32,
    /// Accuracy after step 2 in percent.
    pub accuracy: f64,
}

const fn row(split: &'static str, [unpruned, step1, step2]: [u32; 3], accuracy: f64) -> Row {
    Row {
        split,
        unpruned,
        step1,
        step2,
        accuracy,
    }
}

/// Their split points, front to back.
pub const ROWS: [Row; 7] = [
    row("conv1_1", [65536, 46080, 9216], 89.21),
    row("pool1", [16384, 8960, 1280], 85.83),
    row("pool2", [8192, 4416, 576], 86.51),
    row("pool3", [4096, 1568, 224], 88.44),
    row("pool4", [2048, 628, 108], 88.73),
    row("conv5_1", [2048, 412, 76], 88.71),
    row("pool5", [512, 186, 30], 88.45),
];

/// Whether a series has split points of theirs: figures of another network say nothing beside it.
pub fn is_comparable(manifest: &Manifest) -> bool {
    ROWS.iter()
        .any(|row| manifest.split_points.iter().any(|it| it == row.split))
}
