//! The heads whose features are coded.

use anyhow::Result;
use split_core::{
    Shape,
    manifest::{Codec, OperatingPoint},
};
use split_runtime::Network;
use split_tests::series::Series;

/// Operating points of one head.
pub struct Group<'a> {
    pub points: Vec<&'a OperatingPoint>,
    /// Of the features.
    pub shape: Shape,
}

/// Operating points whose features are coded, those of one variant and split point together.
pub fn groups(series: &Series) -> Result<Vec<Group<'_>>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for point in &series.manifest.operating_points {
        let shape = series.cut(point)?.features;
        let alike = |it: &OperatingPoint| (&it.variant, &it.split) == (&point.variant, &point.split);
        match groups.iter_mut().find(|it| alike(it.points[0])) {
            _ if !matches!(point.codec, Codec::Features(_)) => {}
            Some(group) => group.points.push(point),
            None => groups.push(Group {
                points: vec![point],
                shape,
            }),
        }
    }
    Ok(groups)
}

/// The head of a group.
pub fn head(series: &Series, group: &Group<'_>) -> Result<Network> {
    let cut = series.cut(group.points[0])?;
    series.network(cut.input.shape, cut.head)
}
