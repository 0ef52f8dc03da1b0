//! What exporters compute from shapes and constants: the padding of a convolution, say. All of it is known without a picture.

use super::onnx::{Constant, Numbers};

/// More values than any shape or padding has.
const MAX_VALUES: usize = 4096;

/// The result of an operation on constants. `None` for one that is not known, or that would be large.
pub fn evaluate(
    operator: &str,
    inputs: &[Option<Constant>],
    attribute: impl Fn(&str) -> Option<i64>,
) -> Option<Constant> {
    let input = |place: usize| inputs.get(place).and_then(Option::as_ref);
    let first = input(0)?;
    if inputs.iter().flatten().any(|it| it.len() > MAX_VALUES) {
        return None;
    }
    match operator {
        "Add" => both(first, input(1)?, |a, b| a + b, i64::checked_add),
        "Sub" => both(first, input(1)?, |a, b| a - b, i64::checked_sub),
        "Mul" => both(first, input(1)?, |a, b| a * b, i64::checked_mul),
        "Div" => both(first, input(1)?, |a, b| a / b, i64::checked_div),
        "Max" => both(first, input(1)?, f32::max, |a, b| Some(a.max(b))),
        "Min" => both(first, input(1)?, f32::min, |a, b| Some(a.min(b))),
        "Ceil" => each(first, f32::ceil),
        "Floor" => each(first, f32::floor),
        "Clip" => {
            let least = match input(1) {
                Some(bound) => both(first, bound, f32::max, |a, b| Some(a.max(b)))?,
                None => first.clone(),
            };
            match input(2) {
                Some(bound) => both(&least, bound, f32::min, |a, b| Some(a.min(b))),
                None => Some(least),
            }
        }
        "Cast" => {
            const FLOAT: i64 = 1;
            Some(Constant {
                sides: first.sides.clone(),
                values: match (attribute("to")?, &first.values) {
                    (FLOAT, Numbers::Integers(it)) => Numbers::Floats(it.iter().map(|it| *it as f32).collect()),
                    (6 | 7, Numbers::Floats(it)) => Numbers::Integers(it.iter().map(|it| *it as i64).collect()),
                    (_, same) => same.clone(),
                },
            })
        }
        "Expand" => expand(first, input(1)?),
        "Slice" => slice(inputs),
        "Concat" => concat(inputs),
        _ => None,
    }
}

/// Value by value; one of the two may be a single number.
fn both(
    a: &Constant,
    b: &Constant,
    floats: impl Fn(f32, f32) -> f32,
    integers: impl Fn(i64, i64) -> Option<i64>,
) -> Option<Constant> {
    let count = a.len().max(b.len());
    if [a, b].iter().any(|it| it.len() != count && it.len() != 1) {
        return None;
    }
    let sides = if a.len() == count { &a.sides } else { &b.sides };
    let values = match (&a.values, &b.values) {
        (Numbers::Integers(a), Numbers::Integers(b)) => {
            let all = (0..count).map(|at| integers(a[at % a.len()], b[at % b.len()]));
            Numbers::Integers(all.collect::<Option<_>>()?)
        }
        (Numbers::Floats(a), Numbers::Floats(b)) => {
            Numbers::Floats((0..count).map(|at| floats(a[at % a.len()], b[at % b.len()])).collect())
        }
        _ => return None,
    };
    Some(Constant {
        sides: sides.clone(),
        values,
    })
}

fn each(it: &Constant, function: impl Fn(f32) -> f32) -> Option<Constant> {
    let Numbers::Floats(values) = &it.values else {
        return None;
    };
    Some(Constant {
        sides: it.sides.clone(),
        values: Numbers::Floats(values.iter().map(|it| function(*it)).collect()),
    })
}

/// One number many times, or what has the shape already.
fn expand(it: &Constant, to: &Constant) -> Option<Constant> {
    let Numbers::Integers(to) = &to.values else {
        return None;
    };
    let sides: Vec<usize> = to.iter().map(|it| usize::try_from(*it).ok()).collect::<Option<_>>()?;
    let count = sides.iter().try_fold(1_usize, |all, it| all.checked_mul(*it))?;
    if it.len() == count {
        return Some(it.clone());
    }
    if it.len() != 1 || count > MAX_VALUES {
        return None;
    }
    let values = match &it.values {
        Numbers::Floats(it) => Numbers::Floats(vec![it[0]; count]),
        Numbers::Integers(it) => Numbers::Integers(vec![it[0]; count]),
    };
    Some(Constant { sides, values })
}

/// A part along the first dimension, perhaps backwards.
fn slice(inputs: &[Option<Constant>]) -> Option<Constant> {
    let one = |place: usize| match &inputs.get(place)?.as_ref()?.values {
        Numbers::Integers(it) if it.len() == 1 => Some(it[0]),
        _ => None,
    };
    let from = inputs.first()?.as_ref()?;
    let (first, end) = (one(1)?, one(2)?);
    if inputs.get(3).is_some_and(Option::is_some) && one(3)? != 0 {
        return None;
    }
    let step = if inputs.get(4).is_some_and(Option::is_some) {
        one(4)?
    } else {
        1
    };
    let count = *from.sides.first()? as i64;
    let row = from.len().checked_div(count as usize)?;
    let wrap = |at: i64| if at < 0 { at.saturating_add(count) } else { at };
    let rows: Vec<usize> = match step {
        1 => (wrap(first).clamp(0, count)..wrap(end).clamp(0, count))
            .map(|it| it as usize)
            .collect(),
        -1 => {
            let [first, end] = [first, end].map(|it| wrap(it).clamp(-1, count - 1));
            (end + 1..first + 1).rev().map(|it| it as usize).collect()
        }
        _ => return None,
    };
    let mut sides = from.sides.clone();
    *sides.first_mut()? = rows.len();
    let Numbers::Integers(values) = &from.values else {
        return None;
    };
    let picked = rows.iter().flat_map(|it| &values[it * row..][..row]).copied();
    Some(Constant {
        sides,
        values: Numbers::Integers(picked.collect()),
    })
}

/// Lists, one after another.
fn concat(inputs: &[Option<Constant>]) -> Option<Constant> {
    let (mut floats, mut integers) = (Vec::new(), Vec::new());
    for it in inputs {
        match &it.as_ref()?.values {
            Numbers::Floats(it) => floats.extend_from_slice(it),
            Numbers::Integers(it) => integers.extend_from_slice(it),
        }
    }
    let count = floats.len() + integers.len();
    let values = match (floats.is_empty(), integers.is_empty()) {
        (_, true) => Numbers::Floats(floats),
        (true, false) => Numbers::Integers(integers),
        (false, false) => return None,
    };
    Some(Constant {
        sides: vec![count],
        values,
    })
}
