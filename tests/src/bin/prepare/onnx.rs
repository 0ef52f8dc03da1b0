//! Heads of a series as ONNX.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};
use split_core::manifest::Cut;
use split_runtime::{read_segments, write_onnx};
use split_tests::series::Series;

use crate::head_name;

/// Writes the head of every operating point, each once.
pub fn write(series: &Series, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut heads = BTreeMap::new();
    for point in &series.manifest.operating_points {
        if let Some(name) = head_name(point) {
            heads.insert(name, series.cut(point)?);
        }
    }
    for (name, cut) in heads {
        let path = folder.join(format!("{name}.onnx"));
        fs::write(&path, onnx(series, &cut)?).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn onnx(series: &Series, cut: &Cut<'_>) -> Result<Vec<u8>> {
    let segments = cut.head.iter().map(|it| series.read(it.file()));
    let segments = segments.collect::<Result<Vec<_>>>()?;
    let head = read_segments(cut.input.shape, segments.iter().map(Vec::as_slice))?;
    Ok(write_onnx(&head).bytes)
}
