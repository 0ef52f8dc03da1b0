//! A clip as Chromium's fake camera reads it: YUV4MPEG2, 4:2:0, which at several times the network's size keeps every colour of its pixels.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::PathBuf,
};

use anyhow::{Context, Result};
use clap::Args;
use split_core::Shape;
use split_tests::pictures;

/// Settings of a clip.
#[derive(Args)]
pub struct Arguments {
    /// Image folder: its `test/CLASS/*` are the pictures, one a frame; without it, made-up ones
    #[arg(long)]
    data: Option<PathBuf>,
    /// The clip
    #[arg(long)]
    to: PathBuf,
    /// Width and height of the network's input
    #[arg(long, default_value_t = 32)]
    size: usize,
    /// How many times larger the clip is; even
    #[arg(long, default_value_t = 4)]
    scale: usize,
    /// Rows of the clip, the upper ones; even [as many as columns]
    #[arg(long)]
    rows: Option<usize>,
    /// Frames; Chromium starts again after the last
    #[arg(long, default_value_t = 300)]
    frames: usize,
    /// Frames in a second
    #[arg(long, default_value_t = 60)]
    rate: usize,
}

/// Writes the clip.
pub fn write(arguments: &Arguments) -> Result<()> {
    let Arguments {
        to,
        size,
        scale,
        rows,
        frames,
        rate,
        ..
    } = arguments;
    let file = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
    let mut file = BufWriter::new(file);
    let side = size * scale;
    let rows = rows.unwrap_or(side).min(side);
    writeln!(file, "YUV4MPEG2 W{side} H{rows} F{rate}:1 Ip A1:1 C420mpeg2")?;
    let pictures = match &arguments.data {
        Some(data) => {
            let loaded = pictures::load(&data.join("test"), Shape::new(3, *size, *size)?, *frames)?;
            loaded.into_iter().map(|it| it.rgba).collect()
        }
        None => (0..*frames).map(|it| made_up(*size, it)).collect::<Vec<_>>(),
    };
    // Neighbours in the folder are alike: a stride that meets every picture once mixes the classes.
    let stride = (1..)
        .map(|it| 37 + it)
        .find(|it| gcd(*it, pictures.len()) == 1)
        .unwrap_or(1);
    for frame in 0..pictures.len() {
        file.write_all(b"FRAME\n")?;
        for plane in planes(&pictures[frame * stride % pictures.len()], *size, *scale) {
            file.write_all(&plane[..plane.len() / side * rows])?;
        }
    }
    Ok(file.flush()?)
}

/// A disc that moves over a gradient.
fn made_up(size: usize, frame: usize) -> Vec<u8> {
    let (x0, y0) = (frame * 3 % size, frame * 5 % size);
    let pixel = |at: usize| {
        let (x, y) = (at % size, at / size);
        let inside = x.abs_diff(x0).pow(2) + y.abs_diff(y0).pow(2) < (size / 4).pow(2);
        let shade = |it: usize| (it * 255 / size) as u8;
        match inside {
            true => [230, shade(x), 60, 255],
            false => [shade(x), shade(y), shade((x + frame) % size), 255],
        }
    };
    (0..size * size).flat_map(pixel).collect()
}

/// Luma of every pixel, then both chromas of every second, each pixel `scale` times in both directions (BT.601, limited range).
fn planes(rgba: &[u8], size: usize, scale: usize) -> [Vec<u8>; 3] {
    let plane = |scale: usize, [offset, r, g, b]: [f32; 4]| {
        let side = size * scale;
        let value = |at: usize| {
            let pixel = 4 * (at / side / scale * size + at % side / scale);
            let [red, green, blue] = [0, 1, 2].map(|it| f32::from(rgba[pixel + it]) / 255.0);
            (offset + r * red + g * green + b * blue).round() as u8
        };
        (0..side * side).map(value).collect()
    };
    [
        plane(scale, [16.0, 65.481, 128.553, 24.966]),
        plane(scale / 2, [128.0, -37.797, -74.203, 112.0]),
        plane(scale / 2, [128.0, 112.0, -93.786, -18.214]),
    ]
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn black_white_and_red_have_their_codes() {
        let rgba = [0, 0, 0, 255, 255, 255, 255, 255, 255, 0, 0, 255, 0, 0, 0, 255];
        let [luma, blue, red] = planes(&rgba, 2, 2);
        assert_eq!(
            luma,
            [16, 16, 235, 235, 16, 16, 235, 235, 81, 81, 16, 16, 81, 81, 16, 16]
        );
        assert_eq!(blue, [128, 128, 90, 128]);
        assert_eq!(red, [128, 128, 240, 128]);
    }
}
