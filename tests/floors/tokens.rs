//! Cuts Rust text into words, `::` and single signs. Comments and literals are left out.

#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'a> {
    pub(crate) text: &'a str,
    pub(crate) line: usize,
}

pub(crate) fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

pub(crate) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while let Some(first) = rest.chars().next() {
        let skipped = skipped(rest, first);
        let len = if skipped > 0 {
            skipped
        } else if rest.starts_with("::") {
            2
        } else if first.is_alphanumeric() || first == '_' {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        if skipped == 0 {
            found.push(Token { text: &rest[..len], line });
        }
        line += rest[..len].matches('\n').count();
        rest = &rest[len..];
    }
    found
}

/// The length of the blank, comment or literal at the start of `text`: 0 if there is none.
fn skipped(text: &str, first: char) -> usize {
    match first {
        ' ' | '\n' | '\t' | '\r' => 1,
        '/' if text.starts_with("//") => text.find('\n').unwrap_or(text.len()),
        '/' if text.starts_with("/*") => comment(text),
        '"' => quoted(text, '"'),
        '\'' => character(text),
        'b' | 'c' | 'r' => prefixed(text),
        _ => 0,
    }
}

/// A comment between `/*` and `*/`, with others inside.
fn comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        match text.as_bytes()[at..] {
            [b'/', b'*', ..] => depth += 1,
            [b'*', b'/', ..] if depth == 1 => return at + 2,
            [b'*', b'/', ..] => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
    }
    text.len()
}

/// The length of a literal between two `quote`s.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == quote && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    text.len()
}

/// A character, or only the quote of a lifetime.
fn character(text: &str) -> usize {
    let mut inside = text.chars().skip(1);
    match (inside.next(), inside.next()) {
        (Some('\\'), _) | (_, Some('\'')) => quoted(text, '\''),
        _ => 1,
    }
}

/// A string such as `b".."`, `r".."` or `br#".."#`; 0 if `text` starts with a word.
fn prefixed(text: &str) -> usize {
    let literal = text.trim_start_matches(['b', 'c', 'r']);
    let prefix = text.len() - literal.len();
    let body = literal.trim_start_matches('#');
    let raw = text[..prefix].ends_with('r');
    let hashes = literal.len() - body.len();
    if prefix > 2 || !body.starts_with('"') || hashes > 0 && !raw {
        return 0;
    }
    if !raw {
        return prefix + quoted(literal, '"');
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let start = prefix + hashes + 1;
    text[start..].find(&end).map_or(text.len(), |at| start + at + end.len())
}
