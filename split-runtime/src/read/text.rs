//! The text of a segment: a name and an expression a line.
//!
//! tract reads any NNEF, and takes longer for the text of a head than the head takes to run: its parser tries every expression twice at every
//! depth.

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Expression<'a> {
    /// A value that has been named before, or a logical constant.
    Name(&'a str),
    /// A number.
    Number(f32),
    /// What stands between quotes.
    Text(&'a str),
    /// `[…]` or `(…)`.
    List(Vec<Self>),
    /// A call of an operator.
    Call(&'a str, Vec<Argument<'a>>),
}

/// An argument of a call, and its name if it has one.
pub type Argument<'a> = (Option<&'a str>, Expression<'a>);

/// How deep lists and calls may lie in each other.
const MOST_DEPTH: usize = 5;

/// The assignments of a text whose graph takes `x` and gives `y`. `None` for what is no such text, or says it in more of NNEF than
/// `write_segment` uses.
pub fn assignments(text: &str) -> Option<Vec<(&str, Expression<'_>)>> {
    let (_, body) = text.split_once("graph network(x) -> (y)")?;
    let mut rest = Rest(body);
    let mut all = Vec::new();
    rest.take("{")?;
    while rest.take("}").is_none() {
        let name = rest.name()?;
        rest.take("=")?;
        all.push((name, rest.expression(MOST_DEPTH)?));
        rest.take(";")?;
    }
    rest.0.trim().is_empty().then_some(all)
}

/// What has not been read yet.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn take(&mut self, token: &str) -> Option<()> {
        self.0 = self.0.trim_ascii_start().strip_prefix(token)?;
        Some(())
    }

    /// What stands before the first character that is not part of it, if that is anything.
    fn word(&mut self, is_part: impl Fn(char) -> bool) -> Option<&'a str> {
        let text = self.0.trim_ascii_start();
        let end = text.find(|it| !is_part(it)).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        self.0 = rest;
        (!word.is_empty()).then_some(word)
    }

    fn name(&mut self) -> Option<&'a str> {
        let name = self.word(|it| it.is_ascii_alphanumeric() || it == '_')?;
        (!name.starts_with(|it: char| it.is_ascii_digit())).then_some(name)
    }

    fn expression(&mut self, depth: usize) -> Option<Expression<'a>> {
        let inner = depth.checked_sub(1)?;
        let first = self.0.trim_ascii_start().chars().next()?;
        Some(match first {
            '"' => {
                self.take("\"")?;
                let (text, rest) = self.0.split_once('"')?;
                self.0 = rest;
                Expression::Text(text)
            }
            '[' | '(' => {
                let [open, close] = if first == '[' { ["[", "]"] } else { ["(", ")"] };
                self.take(open)?;
                Expression::List(self.list(close, |it| it.expression(inner))?)
            }
            '0'..='9' => Expression::Number(self.word(|it| it.is_ascii_digit() || it == '.')?.parse().ok()?),
            _ => {
                let name = self.name()?;
                if self.take("<").is_some() {
                    self.name()?;
                    self.take(">")?;
                }
                match self.take("(") {
                    Some(()) => Expression::Call(name, self.list(")", |it| it.argument(inner))?),
                    None => Expression::Name(name),
                }
            }
        })
    }

    fn argument(&mut self, depth: usize) -> Option<Argument<'a>> {
        match self.expression(depth)? {
            Expression::Name(name) if self.take("=").is_some() => Some((Some(name), self.expression(depth)?)),
            expression => Some((None, expression)),
        }
    }

    fn list<T>(&mut self, close: &str, mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let mut all = Vec::new();
        while self.take(close).is_none() {
            if !all.is_empty() {
                self.take(",")?;
            }
            all.push(one(self)?);
        }
        Some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Option<String> {
        let text = format!("version 1.0;\n\ngraph network(x) -> (y)\n{{\n{body}}}\n");
        assignments(&text).map(|it| format!("{it:?}"))
    }

    #[test]
    fn reads_names_calls_numbers_and_lists() {
        let text =
            "graph network(x) -> (y) { y = conv(x, cast<scalar>(w, to = \"F32\"), pad = [(1, 0.5), ()]); z = y; }";
        let expected = [
            (
                "y",
                Expression::Call(
                    "conv",
                    vec![
                        (None, Expression::Name("x")),
                        (
                            None,
                            Expression::Call(
                                "cast",
                                vec![(None, Expression::Name("w")), (Some("to"), Expression::Text("F32"))],
                            ),
                        ),
                        (
                            Some("pad"),
                            Expression::List(vec![
                                Expression::List(vec![Expression::Number(1.0), Expression::Number(0.5)]),
                                Expression::List(vec![]),
                            ]),
                        ),
                    ],
                ),
            ),
            ("z", Expression::Name("y")),
        ];
        assert_eq!(assignments(text).unwrap(), expected);
    }

    #[test]
    fn leaves_everything_else_to_tract() {
        assert!(read("y = relu(x);").is_some());
        for body in [
            "y = relu(x)",
            "y = relu(x;",
            "y = relu(x,, x);",
            "y = [x;",
            "y = (((((x)))));",
            "y = x + x;",
            "y = -1;",
            "y = \"x;",
            "1 = x;",
            "# comment",
            "y = x; } {",
            "y = é;",
        ] {
            assert_eq!(read(body), None, "{body}");
        }
        assert!(assignments("graph other(x) -> (y) { y = x; }").is_none());
    }
}
