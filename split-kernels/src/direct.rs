//! Convolutions straight from their definition: 1×1, stems, strides, groups, linear layers.

use fearless_simd::prelude::*;

use super::finish::Finish;
use super::map::{Map, Source, Target};
use super::product::{Panel, Place, Then, blocks, multiply};
use super::{FAR_BYTES, Filter};

/// The most positions whose inputs pass all weights together.
pub const MOST_PLACES: usize = 128;

/// Bytes of inputs that pass all weights together: they stay in a near cache beside a panel of weights.
const NEAR_PLACES_BYTES: usize = 64 << 10;

/// The same where the weights come from a far cache, which takes longer than inputs from the second-level cache.
const FAR_PLACES_BYTES: usize = 256 << 10;

/// Filters of a layer, in the order in which they are used.
#[derive(Debug)]
pub struct Direct {
    weights: Vec<f32>,
    blocks: Vec<Block>,
    finish: Finish,
    filter: Window,
    places: usize,
}

/// How the filter lies over its input.
#[derive(Clone, Copy, Debug)]
struct Window {
    window: split_graph::Window,
    /// Whether the columns of a row are one stretch of inputs.
    joined: bool,
}

/// Output channels that are computed together.
#[derive(Debug)]
struct Block {
    /// First weight.
    weight: usize,
    /// First output channel.
    channel: usize,
    vectors: usize,
    /// First input channel.
    input: usize,
    /// Inputs of a stretch.
    run: usize,
}

impl Direct {
    /// Orders filters for a map of `channels` in memory.
    pub fn new(filter: &Filter, finish: Finish, channels: usize, lanes: usize) -> Self {
        let [rows, columns] = filter.window.kernel;
        let joined = filter.groups == 1;
        let group_outputs = filter.outputs / filter.groups;
        let mut weights = Vec::with_capacity(rows * columns * filter.inputs * filter.outputs.next_multiple_of(lanes));
        let mut ready = Vec::new();
        for vectors in blocks(filter.outputs, lanes) {
            let outputs = vectors.start * lanes..(vectors.end * lanes).min(filter.outputs);
            // Output channels of several groups see the inputs of all of these, most with a weight of zero.
            let groups = [outputs.start / group_outputs, (outputs.end - 1) / group_outputs];
            let input = groups[0] * filter.inputs;
            let seen = if joined {
                channels
            } else {
                (groups[1] + 1 - groups[0]) * filter.inputs
            };
            let (start, width) = (weights.len(), vectors.len() * lanes);
            weights.resize(start + rows * columns * seen * width, 0.0);
            for y in 0..rows {
                for x in 0..columns {
                    for channel in 0..filter.inputs {
                        for output in outputs.clone() {
                            let first = match joined {
                                true => 0,
                                false => output / group_outputs * filter.inputs - input,
                            };
                            let at = (y * columns + x) * seen + first + channel;
                            weights[start + at * width + output - outputs.start] = filter.tap(output, channel, y, x);
                        }
                    }
                }
            }
            ready.push(Block {
                weight: start,
                channel: outputs.start,
                vectors: vectors.len(),
                input,
                run: if joined { columns * seen } else { seen },
            });
        }
        // Neighbouring positions share what their windows have in common.
        let [down, right] = filter.window.stride;
        let bytes = (down * right).min(rows * columns) * channels * size_of::<f32>();
        let budget = match size_of_val(&weights[..]) > FAR_BYTES {
            true => FAR_PLACES_BYTES,
            false => NEAR_PLACES_BYTES,
        };
        Self {
            weights,
            blocks: ready,
            finish,
            filter: Window {
                window: filter.window,
                joined,
            },
            places: (budget / bytes).clamp(8, MOST_PLACES),
        }
    }

    /// How the filter moves.
    pub fn window(&self) -> split_graph::Window {
        self.filter.window
    }

    /// Bytes of its weights.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.weights[..])
    }

    /// Convolves so many images.
    pub fn run<S: Simd>(&self, simd: S, images: usize, input: Source, output: Target, addend: Option<Source>) {
        let [_, height, width] = output.map.shape.into();
        let window = self.filter.window;
        let [down, right] = window.stride;
        let mut places = Places::new(self.places);
        for image in 0..images {
            for y in 0..height {
                let mut place = Place {
                    input: input.map.window([image, y * down, 0], window.padding),
                    output: output.map.at([image, y, 0]),
                    addend: addend.map_or(0, |it| it.map.at([image, y, 0])),
                };
                for _ in 0..width {
                    if places.push(place) {
                        self.multiply(simd, places.take(), input, output.values, addend.map(|it| it.values));
                    }
                    place.input += right * input.map.channels;
                    place.output += output.map.channels;
                    place.addend += addend.map_or(0, |it| it.map.channels);
                }
            }
        }
        self.multiply(simd, places.take(), input, output.values, addend.map(|it| it.values));
    }

    /// Convolves at the places given.
    pub fn multiply<S: Simd>(
        &self,
        simd: S,
        places: &[Place],
        Source { map, values }: Source,
        output: &mut [f32],
        addend: Option<&[f32]>,
    ) {
        let Window { window, joined } = self.filter;
        let [rows, columns] = window.kernel;
        for block in &self.blocks {
            let panel = Panel {
                weights: &self.weights[block.weight..],
                vectors: block.vectors,
                stretches: [rows, if joined { 1 } else { columns }],
                steps: [map.row, map.channels],
                run: block.run,
            };
            let then = Then::Finish(&self.finish, block.channel, addend);
            multiply(simd, &panel, places, &values[block.input..], output, then);
        }
    }

    /// How many places pass the weights together.
    pub fn places(&self) -> usize {
        self.places
    }
}

/// Collects places until there are enough.
#[derive(Debug)]
pub struct Places {
    places: [Place; MOST_PLACES],
    count: usize,
    enough: usize,
}

impl Places {
    /// Collects up to `enough`.
    pub fn new(enough: usize) -> Self {
        Self {
            places: [Place::default(); MOST_PLACES],
            count: 0,
            enough: enough.clamp(1, MOST_PLACES),
        }
    }

    /// Adds one; whether there are enough now.
    #[inline(always)]
    pub fn push(&mut self, place: Place) -> bool {
        self.places[self.count % MOST_PLACES] = place;
        self.count += 1;
        self.count == self.enough
    }

    /// Those collected, to begin from none.
    #[inline(always)]
    pub fn take(&mut self) -> &[Place] {
        let count = std::mem::take(&mut self.count);
        &self.places[..count.min(MOST_PLACES)]
    }
}

/// The border that a map needs for windows which make `output` of it.
pub fn border(window: &split_graph::Window, input: &Map, output: [usize; 2]) -> split_graph::Padding {
    let split_graph::Padding { top, left, .. } = window.padding;
    let behind = |axis: usize, before: usize, side: usize| {
        ((output[axis] - 1) * window.stride[axis] + window.kernel[axis]).saturating_sub(before + side)
    };
    split_graph::Padding {
        top,
        left,
        bottom: behind(0, top, input.shape.height()),
        right: behind(1, left, input.shape.width()),
    }
}
