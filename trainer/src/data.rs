//! Labelled pictures: an image folder, or CIFAR's own binary files, read into memory at the network's input size.
//!
//! An image folder is `train/<class>/*` and `test/<class>/*`, JPEG or PNG of any size; classes are numbered in the alphabetical
//! order of their folders. Binary files are those of <https://www.cs.toronto.edu/~kriz/cifar.html>, told apart by their names.

use std::path::{Path, PathBuf};

use image::imageops::FilterType;
use rayon::prelude::*;
use split_core::Digest;

/// Which half of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subset {
    /// Pictures to learn from.
    Train,
    /// Pictures to measure on, never learned from.
    Test,
}

impl Subset {
    fn folder(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }
}

/// Labelled RGB pictures of one size.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    classes: Vec<String>,
    /// Rows and columns.
    size: [usize; 2],
    labels: Vec<u16>,
    /// RGB, picture by picture, row by row.
    pixels: Vec<u8>,
}

/// Data that cannot be used as they are.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file or folder cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not a JPEG or PNG, or a damaged one.
    #[error("{path} cannot be decoded: {source}")]
    Picture {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        source: image::ImageError,
    },
    /// A class folder without pictures.
    #[error("{path} holds no pictures (JPEG or PNG)")]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// Neither an image folder nor CIFAR's files.
    #[error("{path} holds neither `{subset}/<class>/*.jpg` nor CIFAR's binary files")]
    Layout {
        /// The folder given.
        path: PathBuf,
        /// `train` or `test`.
        subset: &'static str,
    },
    /// A binary file that is not whole records.
    #[error("{path} holds {got} bytes, not a multiple of {record}")]
    Records {
        /// The file.
        path: PathBuf,
        /// Bytes of one record.
        record: usize,
        /// Bytes of the file.
        got: usize,
    },
    /// A label beyond the class names.
    #[error("{path} has a picture of class {label}, there are {classes}")]
    Label {
        /// The file.
        path: PathBuf,
        /// The label.
        label: usize,
        /// Number of classes.
        classes: usize,
    },
    /// The network has other classes than the data.
    #[error("the network has the classes {network}, the data in {path} have {data}")]
    Classes {
        /// The data.
        path: PathBuf,
        /// What the network knows.
        network: String,
        /// What the data hold.
        data: String,
    },
}

impl Dataset {
    /// Reads one half of the data at `dir`, each picture resized to `height` × `width`.
    pub fn load(dir: &Path, subset: Subset, [height, width]: [usize; 2]) -> Result<Self, DataError> {
        let folder = dir.join(subset.folder());
        if folder.is_dir() {
            return Self::from_folder(&folder, [height, width]);
        }
        match Cifar::find(dir, subset) {
            Some(cifar) => cifar.load([height, width]),
            None => Err(DataError::Layout {
                path: dir.to_owned(),
                subset: subset.folder(),
            }),
        }
    }

    /// Like [`Dataset::load`], and checks that the classes are those of a network.
    pub fn load_for(dir: &Path, subset: Subset, size: [usize; 2], classes: &[String]) -> Result<Self, DataError> {
        let data = Self::load(dir, subset, size)?;
        let summary = |names: &[String]| format!("{} ({})", names.len(), names.join(", "));
        match data.classes == classes {
            true => Ok(data),
            false => Err(DataError::Classes {
                path: dir.to_owned(),
                network: summary(classes),
                data: summary(&data.classes),
            }),
        }
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no pictures; never so for loaded data.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Names of the classes, in the order of their labels.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Rows and columns of each picture.
    pub fn size(&self) -> [usize; 2] {
        self.size
    }

    /// Class of picture `index`.
    pub fn label(&self, index: usize) -> usize {
        usize::from(self.labels[index])
    }

    /// RGB bytes of picture `index`, row by row.
    pub fn pixels(&self, index: usize) -> &[u8] {
        let bytes = self.size[0] * self.size[1] * 3;
        &self.pixels[index * bytes..][..bytes]
    }

    /// Identity of the pictures and their labels, in this order.
    pub fn digest(&self) -> Digest {
        let size: Vec<u8> = self.size.iter().flat_map(|it| (*it as u64).to_le_bytes()).collect();
        let labels: Vec<u8> = self.labels.iter().flat_map(|it| it.to_le_bytes()).collect();
        let parts = [&size, &labels, &self.pixels].map(|it| *Digest::of(it).as_bytes());
        Digest::of(parts.as_flattened())
    }

    /// At most `count` pictures, spread evenly over the data, so that every class keeps its share.
    pub fn thinned(&self, count: usize) -> Self {
        let kept = count.min(self.len());
        let indices = (0..kept).map(|it| it * self.len() / kept.max(1));
        Self {
            classes: self.classes.clone(),
            size: self.size,
            labels: indices.clone().map(|it| self.labels[it]).collect(),
            pixels: indices.flat_map(|it| self.pixels(it)).copied().collect(),
        }
    }

    fn from_folder(folder: &Path, size: [usize; 2]) -> Result<Self, DataError> {
        let folders: Vec<PathBuf> = entries(folder)?.into_iter().filter(|it| it.is_dir()).collect();
        if folders.is_empty() {
            return Err(DataError::Empty {
                path: folder.to_owned(),
            });
        }
        let mut files = Vec::new();
        for (label, class) in folders.iter().enumerate() {
            let pictures: Vec<PathBuf> = entries(class)?.into_iter().filter(|it| is_picture(it)).collect();
            if pictures.is_empty() {
                return Err(DataError::Empty { path: class.clone() });
            }
            files.extend(pictures.into_iter().map(|it| (label as u16, it)));
        }
        let decoded = files
            .par_iter()
            .map(|(_, path)| decode(path, size))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            classes: folders.iter().map(|it| name(it)).collect(),
            size,
            labels: files.iter().map(|it| it.0).collect(),
            pixels: decoded.concat(),
        })
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Everything in a folder, sorted by name, without hidden files.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let io = |source| DataError::Io {
        path: folder.to_owned(),
        source,
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        paths.push(entry.map_err(io)?.path());
    }
    paths.retain(|it| !name(it).starts_with('.'));
    paths.sort();
    Ok(paths)
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    ["jpg", "jpeg", "png"].iter().any(|it| extension == *it)
}

fn decode(path: &Path, size: [usize; 2]) -> Result<Vec<u8>, DataError> {
    let bytes = std::fs::read(path).map_err(|source| DataError::Io {
        path: path.to_owned(),
        source,
    })?;
    let picture = image::load_from_memory(&bytes).map_err(|source| DataError::Picture {
        path: path.to_owned(),
        source,
    })?;
    Ok(resize(picture.into_rgb8(), size))
}

fn resize(picture: image::RgbImage, [height, width]: [usize; 2]) -> Vec<u8> {
    let [height, width] = [height as u32, width as u32];
    match picture.dimensions() == (width, height) {
        true => picture.into_raw(),
        false => image::imageops::resize(&picture, width, height, FilterType::Triangle).into_raw(),
    }
}

/// CIFAR's own files: records of one or two label bytes and 3 × 32 × 32 bytes, channel by channel.
struct Cifar {
    files: Vec<PathBuf>,
    /// Text file of class names, one a line.
    names: PathBuf,
    label_bytes: usize,
}

/// Side of CIFAR's pictures.
const CIFAR_SIDE: usize = 32;

impl Cifar {
    fn find(dir: &Path, subset: Subset) -> Option<Self> {
        let ten = match subset {
            Subset::Train => (1..=5).map(|it| dir.join(format!("data_batch_{it}.bin"))).collect(),
            Subset::Test => vec![dir.join("test_batch.bin")],
        };
        let hundred = vec![dir.join(format!("{}.bin", subset.folder()))];
        let candidates = [(ten, "batches.meta.txt", 1), (hundred, "fine_label_names.txt", 2)];
        candidates
            .into_iter()
            .find(|(files, ..)| files.iter().all(|it| it.is_file()))
            .map(|(files, names, label_bytes)| Self {
                files,
                names: dir.join(names),
                label_bytes,
            })
    }

    fn load(&self, size: [usize; 2]) -> Result<Dataset, DataError> {
        let names = read(&self.names)?;
        let names = String::from_utf8_lossy(&names);
        let classes: Vec<String> = names
            .lines()
            .map(str::trim)
            .filter(|it| !it.is_empty())
            .map(String::from)
            .collect();
        let mut data = Dataset {
            classes,
            size,
            labels: Vec::new(),
            pixels: Vec::new(),
        };
        for path in &self.files {
            self.append(path, &mut data)?;
        }
        Ok(data)
    }

    fn append(&self, path: &Path, data: &mut Dataset) -> Result<(), DataError> {
        let bytes = read(path)?;
        let plane = CIFAR_SIDE * CIFAR_SIDE;
        let record = self.label_bytes + 3 * plane;
        if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
            return Err(DataError::Records {
                path: path.to_owned(),
                record,
                got: bytes.len(),
            });
        }
        for record in bytes.chunks_exact(record) {
            let (labels, values) = record.split_at(self.label_bytes);
            let label = usize::from(labels[self.label_bytes - 1]);
            if label >= data.classes.len() {
                return Err(DataError::Label {
                    path: path.to_owned(),
                    label,
                    classes: data.classes.len(),
                });
            }
            data.labels.push(label as u16);
            let picture = image::RgbImage::from_fn(CIFAR_SIDE as u32, CIFAR_SIDE as u32, |x, y| {
                let at = y as usize * CIFAR_SIDE + x as usize;
                image::Rgb([values[at], values[plane + at], values[2 * plane + at]])
            });
            data.pixels.extend(resize(picture, data.size));
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    std::fs::read(path).map_err(|source| DataError::Io {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
impl Dataset {
    /// 16×16 pictures of three classes, each of its own colour under noise.
    pub fn toy(count: usize) -> Self {
        let noise = |at: usize| (crate::augment::mix(at as u64) >> 57) as u8;
        let colour = |at: usize| if at / (3 * 256) % 3 == at % 3 { 64 } else { 0 };
        Self {
            classes: ["cat", "dog", "owl"].map(String::from).into(),
            size: [16, 16],
            labels: (0..count).map(|it| (it % 3) as u16).collect(),
            pixels: (0..count * 3 * 256).map(|it| noise(it) + colour(it)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(classes: &[(&str, usize)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (class, count) in classes {
            let folder = dir.path().join("test").join(class);
            std::fs::create_dir_all(&folder).unwrap();
            for number in 0..*count {
                let picture = image::RgbImage::from_pixel(6, 4, image::Rgb([number as u8, 100, 200]));
                picture.save(folder.join(format!("{number}.png"))).unwrap();
            }
        }
        dir
    }

    #[test]
    fn folders_are_classes_in_alphabetical_order() {
        let dir = folder(&[("dog", 2), ("cat", 3)]);
        let data = Dataset::load(dir.path(), Subset::Test, [4, 6]).unwrap();
        assert_eq!(data.classes(), ["cat", "dog"]);
        assert_eq!(
            (0..data.len()).map(|it| data.label(it)).collect::<Vec<_>>(),
            [0, 0, 0, 1, 1]
        );
        assert_eq!(data.pixels(2)[..3], [2, 100, 200]);
        let resized = Dataset::load(dir.path(), Subset::Test, [8, 8]).unwrap();
        assert_eq!(resized.pixels(4).len(), 8 * 8 * 3);
        assert_eq!(data.thinned(2).len(), 2);
    }

    #[test]
    fn a_digest_tells_pixels_and_labels_and_their_order_apart() {
        let data = Dataset::toy(6);
        assert_eq!(data.digest(), Dataset::toy(6).digest());
        let check = |change: fn(&mut Dataset)| {
            let mut other = data.clone();
            change(&mut other);
            assert_ne!(other.digest(), data.digest());
        };
        check(|it| it.pixels[4000] ^= 1);
        check(|it| it.labels[5] = 0);
        check(|it| it.labels.swap(0, 1));
        check(|it| it.pixels.swap(0, 1));
        check(|it| it.size = [8, 32]);
    }

    #[test]
    fn faults_name_the_file() {
        let check = |dir: &tempfile::TempDir, words: &str| {
            let message = Dataset::load(dir.path(), Subset::Test, [4, 4]).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        };
        check(&folder(&[]), "neither");
        check(&folder(&[("cat", 0), ("dog", 1)]), "cat holds no pictures");
        let dir = folder(&[("cat", 1)]);
        std::fs::write(dir.path().join("test/cat/bad.jpg"), b"no picture").unwrap();
        check(&dir, "bad.jpg cannot be decoded");
        let dir = folder(&[("cat", 1), ("dog", 1)]);
        let error = Dataset::load_for(dir.path(), Subset::Test, [4, 4], &["cat".into()])
            .unwrap_err()
            .to_string();
        assert!(error.contains("1 (cat)") && error.contains("2 (cat, dog)"), "{error}");
    }

    #[test]
    fn cifar_100_has_a_coarse_label_before_the_fine_one() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("fine_label_names.txt"), "apple\nbaby\nbear\n").unwrap();
        std::fs::write(dir.path().join("coarse_label_names.txt"), "fruit\npeople\n").unwrap();
        let record = |coarse, fine| [vec![coarse, fine], vec![7; 3072]].concat();
        std::fs::write(dir.path().join("train.bin"), [record(1, 2), record(0, 0)].concat()).unwrap();
        let data = Dataset::load(dir.path(), Subset::Train, [16, 16]).unwrap();
        assert_eq!(data.classes(), ["apple", "baby", "bear"]);
        assert_eq!([0, 1].map(|it| data.label(it)), [2, 0]);
        assert_eq!(data.pixels(1), [7; 3 * 16 * 16]);
        assert!(matches!(
            Dataset::load(dir.path(), Subset::Test, [16, 16]),
            Err(DataError::Layout { .. })
        ));
    }

    #[test]
    fn cifar_10_has_five_files_to_train_on() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("batches.meta.txt"), "airplane\nautomobile\n").unwrap();
        for number in 1..=5 {
            assert!(Dataset::load(dir.path(), Subset::Train, [32, 32]).is_err());
            let record = [vec![number % 2], vec![number; 3072]].concat();
            std::fs::write(dir.path().join(format!("data_batch_{number}.bin")), record).unwrap();
        }
        let data = Dataset::load(dir.path(), Subset::Train, [32, 32]).unwrap();
        assert_eq!(data.len(), 5);
        assert_eq!((data.label(2), data.pixels(2)[0]), (1, 3));
    }

    #[test]
    fn cifar_files_are_read_plane_by_plane() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("batches.meta.txt"), "airplane\nautomobile\n\n").unwrap();
        let mut record = vec![1_u8];
        record.extend([10; 1024].iter().chain(&[20; 1024]).chain(&[30; 1024]));
        std::fs::write(dir.path().join("test_batch.bin"), &record).unwrap();
        let data = Dataset::load(dir.path(), Subset::Test, [32, 32]).unwrap();
        assert_eq!(
            (data.len(), data.label(0), &data.pixels(0)[..3]),
            (1, 1, &[10, 20, 30][..])
        );
        record[0] = 2;
        std::fs::write(dir.path().join("test_batch.bin"), &record).unwrap();
        assert!(matches!(
            Dataset::load(dir.path(), Subset::Test, [32, 32]),
            Err(DataError::Label { .. })
        ));
        record.pop();
        std::fs::write(dir.path().join("test_batch.bin"), &record).unwrap();
        assert!(matches!(
            Dataset::load(dir.path(), Subset::Test, [32, 32]),
            Err(DataError::Records { .. })
        ));
    }
}
