//! After the first payload the codec allocates nothing, however long the next one is.
//!
//! A binary of its own, with one test: the allocator counts for the whole process.
#![allow(unsafe_code, reason = "an allocator cannot be counted otherwise")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use split_core::{
    Shape,
    codec::{FeatureCodec, FeatureCodecSpec, Tables},
};

/// Counts what it passes on to the system's allocator.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn only_the_first_payload_allocates() {
    let shape = Shape::new(8, 16, 16).unwrap();
    // Zeros cost nearly nothing and everything else as much as can be, so that payloads are of all lengths, the longest through the escape.
    let costs = [vec![0; 1], vec![255; 7]].concat();
    // Every channel is predicted from all neighbours.
    let predictors = (0..8).flat_map(|channel: u8| {
        let references = (1..=6).map(move |back| if back <= channel { back } else { 0 });
        references.chain([1; 36])
    });
    let tables = Tables {
        predictors: predictors.collect(),
        costs,
    };
    let spec = FeatureCodecSpec {
        bits: 3,
        steps: vec![1.0; 8],
        centres: vec![],
        tables,
    };
    let codec = FeatureCodec::new(shape, &spec).unwrap();
    let (mut codes, mut payload, mut decoded) = (Vec::new(), Vec::new(), Vec::new());
    let mut longest = 0;
    // Features of which every `sparsity`-th is not zero.
    let mut cross = |features: &[f32]| {
        codec.encode(features, &mut codes, &mut payload).unwrap();
        codec.decode(&payload, &mut codes, &mut decoded).unwrap();
        longest = longest.max(payload.len());
    };
    let features =
        |sparsity: usize| (0..shape.values()).map(move |it| if it % sparsity == 0 { (it % 7 + 1) as f32 } else { 0.0 });
    let inputs: Vec<Vec<f32>> = [10_000, 100, 10, 3, 2, 1].map(|it| features(it).collect()).into();
    cross(&inputs[0]);
    let before = ALLOCATIONS.load(Relaxed);
    inputs.iter().for_each(|it| cross(it));
    assert_eq!(ALLOCATIONS.load(Relaxed), before);
    assert!(longest > codec.max_payload_bytes() - 2, "{longest} bytes");
}
