use super::*;

/// Pictures of 6 × 4, each of its own colour.
fn folder(subset: &str, classes: &[(&str, usize)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    add(dir.path(), subset, classes);
    dir
}

fn add(dir: &Path, subset: &str, classes: &[(&str, usize)]) {
    for (class, count) in classes {
        let folder = dir.join(subset).join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for number in 0..*count {
            let picture = image::RgbImage::from_pixel(6, 4, image::Rgb([number as u8, 100, 200]));
            picture.save(folder.join(format!("{number}.png"))).unwrap();
        }
    }
}

fn source(dir: &Path) -> DataSource {
    DataSource {
        data: dir.to_owned(),
        ..DataSource::default()
    }
}

fn load(dir: &Path, subset: Subset, size: [usize; 2]) -> Result<Dataset, DataError> {
    let source = source(dir);
    Reader::new(&Library::default(), &source, size, Preparation::default(), dir).load(subset)
}

fn message(dir: &Path, subset: Subset) -> String {
    load(dir, subset, [4, 4]).unwrap_err().to_string()
}

#[test]
fn folders_are_classes_in_alphabetical_order() {
    let dir = folder("test", &[("dog", 2), ("cat", 3)]);
    let data = load(dir.path(), Subset::Test, [4, 6]).unwrap();
    assert_eq!(data.classes(), ["cat", "dog"]);
    let labels: Vec<usize> = (0..data.len()).map(|it| data.label(it)).collect();
    assert_eq!(labels, [0, 0, 0, 1, 1]);
    assert_eq!(data.counts(), [3, 2]);
    assert_eq!(data.pixels(2).unwrap()[..3], [2, 100, 200]);
    let resized = load(dir.path(), Subset::Test, [8, 8]).unwrap();
    assert_eq!(resized.pixels(4).unwrap().len(), 8 * 8 * 3);
    assert_eq!(data.thinned(2).len(), 2);
}

#[test]
fn shuffled_pictures_are_the_same_ones_with_classes_mixed() {
    let dir = folder("test", &[("cat", 30), ("dog", 30)]);
    let data = load(dir.path(), Subset::Test, [4, 4]).unwrap();
    let shuffled = data.shuffled(1);
    assert_eq!(shuffled.counts(), data.counts());
    let first: Vec<usize> = (0..15).map(|it| shuffled.label(it)).collect();
    assert!(first.contains(&0) && first.contains(&1), "{first:?}");
}

#[test]
fn classes_are_found_by_their_names_however_they_are_spelled() {
    let dir = folder("train", &[("cafe\u{301}", 2), ("tea", 2)]);
    add(dir.path(), "test", &[("caf\u{e9}", 1), ("tea", 1)]);
    let source = source(dir.path());
    let library = Library::default();
    let mut reader = Reader::new(&library, &source, [4, 4], Preparation::default(), dir.path());
    assert_eq!(reader.load(Subset::Train).unwrap().classes(), ["caf\u{e9}", "tea"]);
    assert_eq!(reader.load(Subset::Test).unwrap().counts(), [1, 1]);
    // In another order, each keeps its number.
    let library = Library::default();
    let reader = Reader::new(&library, &source, [4, 4], Preparation::default(), dir.path());
    let classes = ["tea".to_owned(), "caf\u{e9}".to_owned()];
    let data = reader.expecting(&classes, "the network").load(Subset::Train).unwrap();
    assert_eq!((data.classes(), data.label(0)), (&classes[..], 1));
    add(dir.path(), "train", &[("caf\u{e9}", 1)]);
    assert!(message(dir.path(), Subset::Train).contains("two folders named `caf\u{e9}`"));
}

#[cfg(unix)]
#[test]
fn a_class_must_be_text() {
    use std::os::unix::ffi::OsStrExt;
    let dir = folder("train", &[("cat", 1)]);
    std::fs::create_dir(dir.path().join("train").join(std::ffi::OsStr::from_bytes(b"d\xffg"))).unwrap();
    let message = message(dir.path(), Subset::Train);
    assert!(message.contains("UTF-8") && message.contains("d\\xFFg"), "{message}");
}

#[test]
fn of_classes_that_differ_the_difference_is_said() {
    let many: Vec<String> = (0..2000).map(|it| format!("class {it:04}")).collect();
    let classes: Vec<(&str, usize)> = many.iter().map(|it| (it.as_str(), 1)).collect();
    let dir = folder("train", &classes[..30]);
    add(dir.path(), "test", &[classes[0], ("Class 0001", 1)]);
    let source = source(dir.path());
    let library = Library::default();
    let mut reader = Reader::new(&library, &source, [4, 4], Preparation::default(), dir.path());
    reader.load(Subset::Train).unwrap();
    let message = reader.load(Subset::Test).unwrap_err().to_string();
    for words in [
        "test lacks `class 0001`, `class 0002`",
        "and 19 more",
        "has `Class 0001`",
        "differ only in case",
    ] {
        assert!(message.contains(words), "{words} in {message}");
    }
    let library = Library::default();
    let reader = Reader::new(&library, &source, [4, 4], Preparation::default(), dir.path());
    let message = reader
        .expecting(&many, "the network")
        .load(Subset::Train)
        .unwrap_err()
        .to_string();
    assert!(message.contains("and 1960 more") && message.len() < 400, "{message}");
}

#[test]
fn all_bad_files_are_named_at_once_and_can_be_left_out() {
    let dir = folder("test", &[("cat", 2), ("dog", 1)]);
    for name in ["cat/page.jpg", "dog/empty.png"] {
        std::fs::write(dir.path().join("test").join(name), b"<html>").unwrap();
    }
    let text = message(dir.path(), Subset::Test);
    for words in ["2 of 5 pictures", "page.jpg: not a picture", "empty.png", "--skip-bad"] {
        assert!(text.contains(words), "{words} in {text}");
    }
    let source = DataSource {
        skip_bad: true,
        ..source(dir.path())
    };
    let load =
        || Reader::new(&Library::default(), &source, [4, 4], Preparation::default(), dir.path()).load(Subset::Test);
    assert_eq!(load().unwrap().counts(), [2, 1]);
    std::fs::remove_file(dir.path().join("test/dog/0.png")).unwrap();
    assert!(load().unwrap_err().to_string().contains("dog holds no pictures"));
}

#[test]
fn what_is_left_out_is_counted() {
    let dir = folder("test", &[("cat", 2)]);
    for name in ["cat/a.avif", "cat/b.AVIF", "cat/notes.txt", "cat/noext", "read.me"] {
        std::fs::write(dir.path().join("test").join(name), b"").unwrap();
    }
    std::fs::create_dir(dir.path().join("test/cat/more")).unwrap();
    let found = Found::look(dir.path(), Subset::Test).unwrap();
    let left_out =
        "; left out: 1 .me, 1 .txt, 2 .avif (a format that is not read), 1 folders within a class, 1 other files";
    let mut parts: Vec<&str> = left_out.trim_start_matches("; left out: ").split(", ").collect();
    let text = found.left_out();
    let mut got: Vec<&str> = text.trim_start_matches("; left out: ").split(", ").collect();
    parts.sort_unstable();
    got.sort_unstable();
    assert_eq!(got, parts);
    std::fs::create_dir_all(dir.path().join("train/cat")).unwrap();
    std::fs::write(dir.path().join("train/cat/a.heic"), b"").unwrap();
    let message = message(dir.path(), Subset::Train);
    assert!(message.contains("1 .heic (a format that is not read)"), "{message}");
}

#[test]
fn every_name_of_a_picture_is_read() {
    let dir = folder("test", &[("cat", 1)]);
    let png = std::fs::read(dir.path().join("test/cat/0.png")).unwrap();
    for (number, extension) in decode::READ.iter().enumerate() {
        // The name does not say what a file is.
        let name = format!("test/cat/{number}.{}", extension.to_uppercase());
        std::fs::write(dir.path().join(name), &png).unwrap();
    }
    assert_eq!(
        load(dir.path(), Subset::Test, [4, 4]).unwrap().len(),
        1 + decode::READ.len()
    );
}

#[test]
fn settings_are_chosen_with_pictures_that_are_not_learned_from() {
    let dir = folder("train", &[("cat", 20), ("dog", 20)]);
    let source = source(dir.path());
    let learning = || {
        let library = Library::default();
        let mut reader = Reader::new(&library, &source, [4, 4], Preparation::default(), dir.path());
        reader.learning(None).unwrap()
    };
    let (train, validation) = learning();
    assert_eq!((train.counts(), validation.counts()), (vec![18, 18], vec![2, 2]));
    // A folder for it, in which a class may be missing.
    add(dir.path(), "val", &[("dog", 3)]);
    let (train, validation) = learning();
    assert_eq!((train.counts(), validation.counts()), (vec![20, 20], vec![0, 3]));
    // Those alone, where none can be learned from.
    std::fs::remove_dir_all(dir.path().join("train")).unwrap();
    let library = Library::default();
    let reader = Reader::new(&library, &source, [4, 4], Preparation::default(), dir.path());
    let mut reader = reader.expecting(&["cat".into(), "dog".into()], "the network");
    assert_eq!(reader.validation().unwrap().counts(), [0, 3]);
}

#[test]
fn beyond_the_memory_pictures_come_from_a_file() {
    let dir = folder("test", &[("cat", 5), ("dog", 4)]);
    let source = source(dir.path());
    let whole = load(dir.path(), Subset::Test, [4, 6]).unwrap();
    let library = Library::default();
    let mut reader = Reader::new(&library, &source, [4, 6], Preparation::default(), dir.path());
    reader.memory = 4 * 6 * 3 * 2;
    let spilled = reader.load(Subset::Test).unwrap();
    assert_eq!((spilled.store.pixels.memory.len(), spilled.len()), (4 * 6 * 3 * 2, 9));
    for index in 0..9 {
        assert_eq!(spilled.pixels(index).unwrap(), whole.pixels(index).unwrap());
    }
    // Nothing is left behind.
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_digest_tells_files_and_labels_and_their_order_and_preparation_apart() {
    let dir = folder("test", &[("cat", 2), ("dog", 2)]);
    let digest = |dir: &Path, size| load(dir, Subset::Test, size).unwrap().digest();
    let first = digest(dir.path(), [4, 4]);
    assert_eq!(digest(dir.path(), [4, 4]), first);
    assert_ne!(digest(dir.path(), [8, 2]), first);
    let source = source(dir.path());
    let letterbox = Preparation {
        fit: split_core::Fit::Letterbox,
        ..Preparation::default()
    };
    let other = Reader::new(&Library::default(), &source, [4, 4], letterbox, dir.path())
        .load(Subset::Test)
        .unwrap();
    assert_ne!(other.digest(), first);
    assert_ne!(
        load(dir.path(), Subset::Test, [4, 4]).unwrap().thinned(3).digest(),
        first
    );
    let at = |name: &str| dir.path().join("test").join(name);
    std::fs::rename(at("dog/1.png"), at("cat/2.png")).unwrap();
    assert_ne!(digest(dir.path(), [4, 4]), first);
}

#[test]
fn what_is_no_data_is_said() {
    let dir = tempfile::tempdir().unwrap();
    assert!(message(dir.path(), Subset::Test).contains("neither"));
    let dir = folder("test", &[("cat", 0), ("dog", 1)]);
    assert!(message(dir.path(), Subset::Test).contains("cat holds no pictures"));
    let shared = folder("test", &[("cat", 2)]);
    add(shared.path(), "train", &[("cat", 3)]);
    let [train, test] = [Subset::Train, Subset::Test].map(|it| load(shared.path(), it, [4, 4]).unwrap());
    assert_eq!((test.shared_with(&train), train.shared_with(&test)), (2, 2));
}

#[test]
fn cifar_100_has_a_coarse_label_before_the_fine_one() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("fine_label_names.txt"), "apple\nbaby\nbear\n").unwrap();
    std::fs::write(dir.path().join("coarse_label_names.txt"), "fruit\npeople\n").unwrap();
    let record = |coarse, fine| [vec![coarse, fine], vec![7; 3072]].concat();
    std::fs::write(dir.path().join("train.bin"), [record(1, 2), record(0, 0)].concat()).unwrap();
    let data = load(dir.path(), Subset::Train, [16, 16]).unwrap();
    assert_eq!(data.classes(), ["apple", "baby", "bear"]);
    assert_eq!([0, 1].map(|it| data.label(it)), [2, 0]);
    assert_eq!(*data.pixels(1).unwrap(), [7; 3 * 16 * 16]);
    let test = load(dir.path(), Subset::Test, [16, 16]);
    assert!(matches!(test, Err(DataError::Layout { .. })));
}

#[test]
fn cifar_10_has_five_files_to_train_on() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("batches.meta.txt"), "airplane\nautomobile\n").unwrap();
    for number in 1..=5 {
        assert!(load(dir.path(), Subset::Train, [32, 32]).is_err());
        let record = [vec![number % 2], vec![number; 3072]].concat();
        std::fs::write(dir.path().join(format!("data_batch_{number}.bin")), record).unwrap();
    }
    let data = load(dir.path(), Subset::Train, [32, 32]).unwrap();
    assert_eq!(data.len(), 5);
    assert_eq!((data.label(2), data.pixels(2).unwrap()[0]), (1, 3));
}

#[test]
fn cifar_files_are_read_plane_by_plane() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("batches.meta.txt"), "airplane\nautomobile\n\n").unwrap();
    let mut record = vec![1_u8];
    record.extend([10; 1024].iter().chain(&[20; 1024]).chain(&[30; 1024]));
    let path = dir.path().join("test_batch.bin");
    std::fs::write(&path, &record).unwrap();
    let data = load(dir.path(), Subset::Test, [32, 32]).unwrap();
    assert_eq!(
        (data.len(), data.label(0), &data.pixels(0).unwrap()[..3]),
        (1, 1, &[10, 20, 30][..])
    );
    record[0] = 2;
    std::fs::write(&path, &record).unwrap();
    assert!(matches!(
        load(dir.path(), Subset::Test, [32, 32]),
        Err(DataError::Label { .. })
    ));
    record.pop();
    std::fs::write(&path, &record).unwrap();
    assert!(matches!(
        load(dir.path(), Subset::Test, [32, 32]),
        Err(DataError::Records { .. })
    ));
}

#[test]
fn memory_is_bounded_by_the_control_groups_of_the_program() {
    let root = tempfile::tempdir().unwrap();
    for (file, limit) in [
        ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ("memory/jobs/one/memory.limit_in_bytes", "4294967296\n"),
        ("memory.max", "max\n"),
        ("user/app/memory.max", "1073741824\n"),
    ] {
        let path = root.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, limit).unwrap();
    }
    let limits = |groups: &str| group_limits(groups, root.path());
    assert_eq!(
        limits("5:cpu:/jobs\n4:memory:/jobs/one\n0::/\n"),
        [4_294_967_296, 9_223_372_036_854_771_712]
    );
    assert_eq!(limits("0::/user/app/scope\n"), [1_073_741_824]);
    assert!(limits("").is_empty());
}

#[test]
fn a_library_keeps_pictures_that_were_read() {
    let dir = folder("train", &[("cat", 20), ("dog", 20)]);
    add(dir.path(), "test", &[("cat", 1), ("dog", 1)]);
    let (library, source) = (Library::default(), source(dir.path()));
    let read = |size| {
        let mut reader = Reader::new(&library, &source, size, Preparation::default(), dir.path());
        let (train, held_back) = reader.learning(None)?;
        Ok::<_, DataError>([train, held_back, reader.load(Subset::Test)?].map(|it| it.digest()))
    };
    let first = read([4, 4]).unwrap();
    std::fs::remove_dir_all(dir.path().join("train")).unwrap();
    assert_eq!(read([4, 4]).unwrap(), first);
    assert!(read([2, 2]).is_err(), "another size is read from the files");
}
