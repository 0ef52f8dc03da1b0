//! Segments back to layers, so that other engines can run what is shipped.
//!
//! Reads exactly what `split_runtime::write_segment` writes, one layer a line or two of its graph, and refuses anything else.

use std::{collections::HashMap, io::Read};

use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;
use half::f16;
use split_core::Shape;
use split_runtime::Layer;

/// The layers of a segment that takes `input`.
///
/// # Errors
///
/// If the bytes are not a segment as `split_runtime` writes it.
pub fn read_segment(input: Shape, bytes: &[u8]) -> Result<Vec<Layer>> {
    let files = unpack(bytes)?;
    let graph = files.get("graph.nnef").context("no graph in the segment")?;
    let mut layers = Vec::new();
    let mut shape = input;
    for line in std::str::from_utf8(graph)?.lines() {
        let Some((name, value)) = line.trim().trim_end_matches(';').split_once(" = ") else {
            continue;
        };
        if value.starts_with("conv(") {
            let index = name.strip_prefix("conv").context("a convolution of another name")?;
            layers.push(convolution(index, value, shape, &files)?);
        } else if value.starts_with("max_pool(") {
            layers.push(pool(value)?);
        } else if value.starts_with("max(") {
            match layers.last_mut() {
                Some(Layer::Convolution { relu, .. } | Layer::Linear { relu, .. }) => *relu = true,
                _ => bail!("'{line}' follows no convolution"),
            }
            continue;
        } else {
            continue;
        }
        shape = layers.last().context("no layer")?.output(shape)?;
    }
    Ok(layers)
}

fn unpack(bytes: &[u8]) -> Result<HashMap<String, Vec<u8>>> {
    let mut files = HashMap::new();
    let mut archive = tar::Archive::new(GzDecoder::new(bytes));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        files.insert(name, content);
    }
    Ok(files)
}

fn convolution(index: &str, call: &str, input: Shape, files: &HashMap<String, Vec<u8>>) -> Result<Layer> {
    let file = |name: String| files.get(&format!("{name}.dat")).with_context(|| format!("no {name}"));
    let (dims, weight) = tensor(file(format!("weight{index}"))?)?;
    let (_, bias) = tensor(file(format!("bias{index}"))?)?;
    let [outputs, inputs, height, width] = dims[..] else {
        bail!("a filter with {} dimensions", dims.len());
    };
    let padding = first_number(call, "padding = [(")?;
    // A kernel that covers its whole input is how a segment holds a linear layer.
    if padding == 0 && [height, width] == [input.height(), input.width()] {
        let inputs = inputs * height * width;
        return Ok(Layer::Linear {
            inputs,
            outputs,
            weight,
            bias,
            relu: false,
        });
    }
    ensure!(height == width, "a kernel of {height}×{width}");
    Ok(Layer::Convolution {
        inputs,
        outputs,
        kernel: height,
        stride: first_number(call, "stride = [")?,
        padding,
        weight,
        bias,
        relu: false,
    })
}

fn pool(call: &str) -> Result<Layer> {
    Ok(Layer::MaxPool {
        kernel: first_number(call, "size = [1, 1, ")?,
        stride: first_number(call, "stride = [1, 1, ")?,
    })
}

/// The number right behind `label`.
fn first_number(call: &str, label: &str) -> Result<usize> {
    let rest = call.split_once(label).map(|it| it.1);
    let digits = rest.and_then(|it| it.split(|it: char| !it.is_ascii_digit()).next());
    digits
        .and_then(|it| it.parse().ok())
        .with_context(|| format!("'{call}' has no number behind '{label}'"))
}

/// Bytes of an NNEF tensor file before its values.
const HEADER_BYTES: usize = 128;

/// Dimensions and values of an NNEF tensor file (NNEF 1.0.5, section 5.2.2) of 16-bit or 32-bit floats.
fn tensor(file: &[u8]) -> Result<(Vec<usize>, Vec<f32>)> {
    let word = |at: usize| {
        let bytes = file.get(at..at + 4).and_then(|it| it.try_into().ok());
        bytes
            .map(u32::from_le_bytes)
            .map(|it| it as usize)
            .context("a tensor without a header")
    };
    let rank = word(8)?;
    ensure!(rank <= 8, "a tensor with {rank} dimensions");
    let dims = (0..rank).map(|it| word(12 + 4 * it)).collect::<Result<Vec<_>>>()?;
    let body = file.get(HEADER_BYTES..).context("a tensor without values")?;
    let values: Vec<f32> = match word(44)? {
        16 => body
            .chunks_exact(2)
            .map(|it| f16::from_le_bytes([it[0], it[1]]).to_f32())
            .collect(),
        32 => body
            .chunks_exact(4)
            .map(|it| f32::from_le_bytes([it[0], it[1], it[2], it[3]]))
            .collect(),
        bits => bail!("values of {bits} bits"),
    };
    ensure!(
        values.len() == dims.iter().product::<usize>(),
        "a tensor of {dims:?} with {} values",
        values.len()
    );
    Ok((dims, values))
}

#[cfg(test)]
mod tests {
    use split_runtime::write_segment;

    use super::*;

    /// Weights that 16-bit floats hold exactly.
    fn values(count: usize) -> Vec<f32> {
        (0..count).map(|it| (it % 17) as f32 / 8.0 - 1.0).collect()
    }

    fn convolution(inputs: usize, outputs: usize, relu: bool) -> Layer {
        Layer::Convolution {
            inputs,
            outputs,
            kernel: 3,
            stride: 1,
            padding: 1,
            weight: values(outputs * inputs * 9),
            bias: values(outputs),
            relu,
        }
    }

    #[test]
    fn layers_come_back_as_they_were_written() {
        let input = Shape::new(3, 8, 8).unwrap();
        let layers = [
            convolution(3, 4, true),
            convolution(4, 5, false),
            Layer::MaxPool { kernel: 2, stride: 2 },
            Layer::Linear {
                inputs: 80,
                outputs: 10,
                weight: values(800),
                bias: values(10),
                relu: true,
            },
        ];
        let file = write_segment(input, &layers).unwrap();
        assert_eq!(read_segment(input, &file.bytes).unwrap(), layers);
    }

    #[test]
    fn what_is_no_segment_is_refused() {
        let input = Shape::new(3, 8, 8).unwrap();
        assert!(read_segment(input, b"not a segment").is_err());
        let mut file = write_segment(input, &[convolution(3, 4, true)]).unwrap().bytes;
        file.truncate(file.len() / 2);
        assert!(read_segment(input, &file).is_err());
    }
}
