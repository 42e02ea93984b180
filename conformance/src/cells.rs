//! Cells of tables in `specs/`: what stands between `<!-- kind:id -->` and `<!-- / -->`. (The model fills its own cells
//! with this same file.)

/// What stands in a cell.
pub fn cell<'a>(text: &'a str, kind: &str, id: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<!-- {kind}:{id} -->"))?;
    rest.split_once("<!-- / -->").map(|(content, _)| content)
}

/// The text with a cell's content replaced; the same text where there is no such cell.
pub fn fill(text: &str, kind: &str, id: &str, content: &str) -> String {
    let mark = format!("<!-- {kind}:{id} -->");
    match text.split_once(&mark).and_then(|(before, rest)| Some((before, rest.split_once("<!-- / -->")?.1))) {
        Some((before, after)) => format!("{before}{mark}{content}<!-- / -->{after}"),
        None => text.to_owned(),
    }
}
