//! Image folders of any number of pictures: parts of a few samples, each a file of its own up to a number, then hard links to those.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use image::{DynamicImage, ImageFormat, imageops::FilterType};

/// Classes of the folders.
const CLASSES: usize = 10;
/// Pictures of `val` and of `test`: of each class one.
const HELD_BACK: usize = 2 * CLASSES;
/// Rows and columns of a picture.
const SIZE: [u32; 2] = [256, 320];
/// Share of a sample's sides that a picture shows at least.
const LEAST_SHARE: f64 = 0.6;

/// Files that differ.
pub struct Files {
    /// To learn from.
    train: Vec<PathBuf>,
    held_back: Vec<PathBuf>,
}

impl Files {
    /// Makes so many JPEG files of random parts of the samples.
    pub fn make(samples: &Path, count: usize, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let mut paths: Vec<PathBuf> = fs::read_dir(samples)
            .with_context(|| samples.display().to_string())?
            .map(|it| Ok(it?.path()))
            .collect::<Result<_>>()?;
        paths.retain(|it| ImageFormat::from_path(it).is_ok());
        paths.sort();
        let samples: Vec<DynamicImage> = paths
            .iter()
            .map(|it| image::open(it).with_context(|| it.display().to_string()))
            .collect::<Result<_>>()?;
        ensure!(
            !samples.is_empty() && count > 0,
            "there are no samples to make pictures of"
        );
        let mut files = Vec::with_capacity(count + HELD_BACK);
        for number in 0..count + HELD_BACK {
            let path = folder.join(format!("{number}.jpg"));
            part(&samples[number % samples.len()], number).save(&path)?;
            files.push(path);
        }
        Ok(Self {
            held_back: files.split_off(count),
            train: files,
        })
    }

    /// An image folder with so many pictures to learn from.
    pub fn link(&self, count: usize, data: &Path) -> Result<PathBuf> {
        let halves = self.held_back.split_at(CLASSES);
        let train = (0..count).map(|it| &self.train[it % self.train.len()]);
        link_all(train, &data.join("train"))?;
        link_all(halves.0.iter(), &data.join("val"))?;
        link_all(halves.1.iter(), &data.join("test"))?;
        Ok(data.to_owned())
    }
}

/// Spreads files over the classes of a folder.
fn link_all<'a>(files: impl Iterator<Item = &'a PathBuf>, folder: &Path) -> Result<()> {
    let class = |it: usize| folder.join(format!("class-{it}"));
    for number in 0..CLASSES {
        fs::create_dir_all(class(number))?;
    }
    for (number, file) in files.enumerate() {
        let link = class(number % CLASSES).join(format!("{number:06}.jpg"));
        fs::hard_link(file, &link).with_context(|| link.display().to_string())?;
    }
    Ok(())
}

/// A part of a sample, another one for each number.
fn part(sample: &DynamicImage, number: usize) -> DynamicImage {
    // The golden ratio's multiples spread evenly (Weyl's sequence).
    let chance = |which: f64| ((number as f64 + 1.0) * 0.618_033_988_75 * which).fract();
    let share = LEAST_SHARE + (1.0 - LEAST_SHARE) * chance(1.0);
    let [height, width] = [sample.height(), sample.width()].map(|it| (f64::from(it) * share) as u32);
    let top = f64::from(sample.height() - height) * chance(2.0_f64.sqrt());
    let left = f64::from(sample.width() - width) * chance(3.0_f64.sqrt());
    let part = sample.crop_imm(left as u32, top as u32, width, height);
    part.resize_exact(SIZE[1], SIZE[0], FilterType::Triangle)
}
