//! What layers that do not learn give for views of the training pictures, kept in a file.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};

/// Rows of 16-bit floats, one for each view of each picture, in a temporary file that the system keeps in memory as far as it fits.
pub struct Cache {
    file: File,
    /// Values of a row.
    row: usize,
    views: u64,
    /// Whether a row is written, view after view.
    known: Vec<bool>,
    pictures: usize,
}

impl Cache {
    /// An empty one for `views` views of `pictures` pictures, in a folder.
    pub fn new(folder: &Path, pictures: usize, views: u64, row: usize) -> io::Result<Self> {
        Ok(Self {
            file: tempfile::tempfile_in(folder)?,
            row,
            views,
            known: vec![false; pictures.saturating_mul(views as usize)],
            pictures,
        })
    }

    /// Bytes of the file once it holds all rows.
    pub fn bytes(&self) -> u64 {
        (self.known.len() * self.row * size_of::<u16>()) as u64
    }

    fn place(&self, picture: usize, epoch: u64) -> usize {
        (epoch % self.views) as usize * self.pictures + picture
    }

    fn seek(&mut self, place: usize) -> io::Result<()> {
        let at = place as u64 * (self.row * size_of::<u16>()) as u64;
        self.file.seek(SeekFrom::Start(at)).map(drop)
    }

    /// The rows of some pictures in the view of an epoch, one after another; none if one of them is missing.
    pub fn get(&mut self, pictures: &[usize], epoch: u64) -> io::Result<Option<Vec<f32>>> {
        let places: Vec<usize> = pictures.iter().map(|it| self.place(*it, epoch)).collect();
        if !places.iter().all(|it| self.known[*it]) {
            return Ok(None);
        }
        let mut values = vec![0.0; places.len() * self.row];
        let mut bytes = vec![0; self.row * size_of::<u16>()];
        for (place, values) in places.into_iter().zip(values.chunks_exact_mut(self.row.max(1))) {
            self.seek(place)?;
            self.file.read_exact(&mut bytes)?;
            let (words, _) = bytes.as_chunks::<2>();
            let words: Vec<u16> = words.iter().map(|it| u16::from_le_bytes(*it)).collect();
            words.reinterpret_cast::<f16>().convert_to_f32_slice(values);
        }
        Ok(Some(values))
    }

    /// Keeps the row of a picture in the view of an epoch.
    pub fn put(&mut self, picture: usize, epoch: u64, row: &[f32]) -> io::Result<()> {
        let place = self.place(picture, epoch);
        let bytes: Vec<u8> = row.iter().flat_map(|it| f16::from_f32(*it).to_le_bytes()).collect();
        self.seek(place)?;
        self.file.write_all(&bytes)?;
        self.known[place] = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_in_the_view_that_they_were_kept_for() {
        let folder = tempfile::tempdir().unwrap();
        let mut cache = Cache::new(folder.path(), 3, 2, 2).unwrap();
        assert_eq!(cache.bytes(), 3 * 2 * 2 * 2);
        cache.put(2, 5, &[0.5, -1.0]).unwrap();
        cache.put(0, 1, &[2.0, 3.0]).unwrap();
        assert_eq!(cache.get(&[2, 0], 7).unwrap().unwrap(), [0.5, -1.0, 2.0, 3.0]);
        assert_eq!(cache.get(&[2], 4).unwrap(), None, "another view");
        assert_eq!(cache.get(&[2, 1], 5).unwrap(), None, "another picture");
    }
}
