//! A folder to work in, and the program.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;
use trainer::checkpoint::{Checkpoint, Description, architecture};

/// Classes, and the colour that tells each.
const CLASSES: [(&str, [u8; 3]); 3] = [("cat", [150, 60, 60]), ("dog", [60, 150, 60]), ("owl", [60, 60, 150])];
/// Rows and columns of a picture.
const SIDE: u32 = 16;

/// `pictures` and `parent.safetensors` in a folder of their own.
pub struct Scene(TempDir);

impl Scene {
    /// Coloured noise to learn from, and a small AlexNet that has learned nothing.
    pub fn new() -> Self {
        let scene = Self(tempfile::tempdir().unwrap());
        for (subset, count) in [("train", 24), ("test", 8)] {
            for (class, colour) in CLASSES {
                let folder = scene.path(&format!("pictures/{subset}/{class}"));
                fs::create_dir_all(&folder).unwrap();
                for number in 0..count {
                    picture(colour, number)
                        .save(folder.join(format!("{number}.png")))
                        .unwrap();
                }
            }
        }
        let classes = CLASSES.map(|it| it.0.to_owned()).into();
        small_alexnet(classes).save(&scene.path("parent.safetensors")).unwrap();
        scene
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The program, run in the folder on one thread, where words are separated by spaces.
    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trainer"));
        command.current_dir(self.0.path()).args(arguments.split_whitespace());
        command.env("RAYON_NUM_THREADS", "1");
        command
    }

    /// Runs the program, which must succeed. Returns what it printed.
    pub fn run(&self, arguments: &str) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs the program, which must succeed. Returns what it said on standard error.
    pub fn says(&self, arguments: &str) -> String {
        let output = self.command(arguments).output().unwrap();
        let text = text(&output);
        assert!(output.status.success(), "{arguments}: {text}");
        text
    }

    /// Runs the program, which must fail and say all `words` without a panic.
    pub fn fails(&self, arguments: &str, words: &[&str]) {
        let output = self.command(arguments).output().unwrap();
        let text = text(&output);
        assert!(!output.status.success(), "{arguments} succeeds");
        assert!(!text.contains("panicked"), "{arguments}: {text}");
        for word in words {
            assert!(text.contains(word), "{arguments}: `{word}` in {text}");
        }
    }
}

/// A narrow AlexNet with random weights, for pictures of 16×16.
pub fn small_alexnet(classes: Vec<String>) -> Checkpoint {
    let description = Description::usual(architecture("alexnet").unwrap(), [SIDE as usize; 2], classes);
    Checkpoint::random(description, 1)
        .unwrap()
        .narrowed(&[8, 8, 8, 8, 16])
        .unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn picture(colour: [u8; 3], number: u32) -> image::RgbImage {
    image::RgbImage::from_fn(SIDE, SIDE, |x, y| {
        let noise = (x * 31 + y * 17 + number * 53 + x * y * number) % 61;
        image::Rgb(colour.map(|it| it + noise as u8))
    })
}

/// A file's bytes.
pub fn bytes(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
