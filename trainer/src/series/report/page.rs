//! The page: one HTML file that needs nothing else, no script either.

use std::fmt::Write;

/// Style of the page; the plots bring their own.
const STYLE: &str = "\
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --line: #d5d9de; --faint: #5b6470; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7eb; --paper: #16191d; --line: #3a4048; --faint: #9aa4b0; } }
body { margin: 0 auto; padding: 1.5rem; max-width: 62rem; font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; } p { max-width: 46rem; } .note { color: var(--faint); }
.wide { overflow-x: auto; } svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; } caption { text-align: left; padding-bottom: .4rem; color: var(--faint); }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } thead th { vertical-align: bottom; }";

/// A page that is being written.
pub struct Page(String);

impl Page {
    /// A page with a heading.
    pub fn new(title: &str) -> Self {
        let title = escape(title);
        Self(format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
             <title>{title}</title>\n<style>\n{STYLE}\n</style>\n<h1>{title}</h1>\n"
        ))
    }

    /// A section's heading.
    pub fn section(&mut self, title: &str) {
        self.push(format_args!("<h2>{}</h2>", escape(title)));
    }

    /// A paragraph.
    pub fn paragraph(&mut self, text: &str) {
        self.push(format_args!("<p>{}</p>", escape(text)));
    }

    /// A plot, as SVG.
    pub fn plot(&mut self, svg: &str) {
        self.push(format_args!("<figure class=\"wide\">\n{svg}</figure>"));
    }

    /// A table; the first cell of each row names it.
    pub fn table(&mut self, caption: &str, head: &[&str], rows: &[Vec<String>]) {
        let caption = escape(caption);
        let head: String = head
            .iter()
            .map(|it| format!("<th scope=\"col\">{}</th>", escape(it)))
            .collect();
        self.push(format_args!("<div class=\"wide\"><table><caption>{caption}</caption>"));
        self.push(format_args!("<thead><tr>{head}</tr></thead>\n<tbody>"));
        for row in rows {
            let row: String = row.iter().map(|it| format!("<td>{}</td>", escape(it))).collect();
            self.push(format_args!("<tr>{row}</tr>"));
        }
        self.push(format_args!("</tbody></table></div>"));
    }

    /// The file.
    pub fn finish(self) -> String {
        self.0 + "</html>\n"
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{text}");
    }
}

/// Text as it stands in HTML and SVG.
pub fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, it| {
        match it {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            _ => escaped.push(it),
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_the_page() {
        let mut page = Page::new("a <series>");
        page.table("\"t\"", &["<b>"], &[vec!["1 & 2".into()]]);
        let html = page.finish();
        for text in [
            "<title>a &lt;series&gt;</title>",
            "<caption>&quot;t&quot;</caption>",
            "<th scope=\"col\">&lt;b&gt;</th>",
            "<td>1 &amp; 2</td>",
        ] {
            assert!(html.contains(text), "{text} in {html}");
        }
    }
}
