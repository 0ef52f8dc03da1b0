//! Pictures of an image folder: `<class>/*`, as data sets are laid out.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader};
use split_core::{Preparation, Shape};

/// A picture of the network's size.
pub struct Picture {
    /// RGBA, row by row.
    pub rgba: Vec<u8>,
    /// Name of its folder.
    pub class: String,
}

/// At most `count` pictures, spread evenly over the class folders, as they come: class by class.
///
/// # Errors
///
/// If there are none, or one cannot be read.
pub fn load(folder: &Path, shape: Shape, count: usize) -> Result<Vec<Picture>> {
    let files = files(folder, count)?;
    files.iter().map(|it| picture(it, shape)).collect()
}

/// Paths of at most `count` pictures, spread evenly over the class folders.
///
/// # Errors
///
/// If there are none.
pub fn files(folder: &Path, count: usize) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for class in entries(folder)? {
        files.extend(entries(&class)?);
    }
    ensure!(!files.is_empty() && count > 0, "{} holds no pictures", folder.display());
    let count = count.min(files.len());
    Ok((0..count).map(|it| files[it * files.len() / count].clone()).collect())
}

fn picture(path: &Path, shape: Shape) -> Result<Picture> {
    let read = || {
        let mut decoder = ImageReader::open(path)?.with_guessed_format()?.into_decoder()?;
        let orientation = decoder.orientation()?;
        let mut picture = DynamicImage::from_decoder(decoder)?;
        picture.apply_orientation(orientation);
        Ok::<_, ImageError>(picture.into_rgba8())
    };
    let picture = read().with_context(|| path.display().to_string())?;
    let from = [picture.height() as usize, picture.width() as usize];
    let rgba = Preparation::default().apply(&picture, from, [shape.height(), shape.width()])?;
    Ok(Picture {
        rgba,
        class: class(path),
    })
}

/// Name of the folder that a picture lies in.
pub fn class(path: &Path) -> String {
    let folder = path.parent().and_then(Path::file_name);
    folder.unwrap_or_default().to_string_lossy().into_owned()
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = entries.map(|it| Ok(it?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}
