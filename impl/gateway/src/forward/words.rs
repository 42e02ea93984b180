//! What can be seen of a statement by its first words, and of a refusal by what it names.
//!
//! PostgreSQL itself decides what a statement does: a reader refuses what writes, and says which command it was. The words
//! only save the way to the reader where they are plain.

/// What a statement is, by its first words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It changes rows.
    Writes,
    /// It begins a transaction that is declared to write.
    BeginsToWrite,
    /// It ends a transaction.
    Ends,
    /// It ends a transaction, and takes it back.
    TakesBack,
    /// It sets or shows settings: it reads no table.
    Settings,
    /// A command that is not forwarded.
    Refused(&'static str),
    /// Anything else: a reader is asked.
    Other,
}

/// Commands that are not forwarded: the first words, and what the client is told.
const REFUSED: [(&str, &str); 24] = [
    ("CREATE", "CREATE"),
    ("ALTER", "ALTER"),
    ("DROP", "DROP"),
    ("TRUNCATE", "TRUNCATE"),
    ("VACUUM", "VACUUM"),
    ("ANALYZE", "ANALYZE"),
    ("CLUSTER", "CLUSTER"),
    ("REINDEX", "REINDEX"),
    ("COPY", "COPY"),
    ("DECLARE", "DECLARE CURSOR"),
    ("GRANT", "GRANT"),
    ("REVOKE", "REVOKE"),
    ("REASSIGN", "REASSIGN OWNED"),
    ("SECURITY", "SECURITY LABEL"),
    ("COMMENT", "COMMENT"),
    ("IMPORT", "IMPORT FOREIGN SCHEMA"),
    ("REFRESH", "REFRESH MATERIALIZED VIEW"),
    ("LOCK", "LOCK TABLE"),
    ("LISTEN", "LISTEN"),
    ("UNLISTEN", "UNLISTEN"),
    ("NOTIFY", "NOTIFY"),
    ("PREPARE TRANSACTION", "PREPARE TRANSACTION"),
    ("COMMIT PREPARED", "COMMIT PREPARED"),
    ("ROLLBACK PREPARED", "ROLLBACK PREPARED"),
];

/// Looks at the first words.
pub fn kind(text: &[u8]) -> Kind {
    let words = first_words(text);
    let word = |index: usize| words.get(index).map_or("", String::as_str);
    if let Some((_, name)) = REFUSED.iter().find(|(begins, _)| is_beginning(&words, begins)) {
        return Kind::Refused(name);
    }
    match word(0) {
        "INSERT" | "UPDATE" | "DELETE" | "MERGE" => Kind::Writes,
        "BEGIN" | "START" if says(&words, "READ", "WRITE") => Kind::BeginsToWrite,
        "COMMIT" | "END" => Kind::Ends,
        "ABORT" => Kind::TakesBack,
        "ROLLBACK" if word(1) != "TO" && word(2) != "TO" => Kind::TakesBack,
        "SET" if word(1) == "CONSTRAINTS" => Kind::Refused("SET CONSTRAINTS"),
        "SET" | "RESET" | "SHOW" | "DISCARD" | "DEALLOCATE" | "PREPARE" => Kind::Settings,
        _ => Kind::Other,
    }
}

/// Whether a statement begins a transaction.
pub fn begins(text: &[u8]) -> bool {
    matches!(first_words(text).first().map(String::as_str), Some("BEGIN" | "START"))
}

fn is_beginning(words: &[String], begins: &str) -> bool {
    begins.split(' ').zip(words.iter().map(String::as_str).chain(std::iter::repeat(""))).all(|(a, b)| a == b)
}

fn says(words: &[String], first: &str, second: &str) -> bool {
    words.windows(2).any(|pair| pair[0] == first && pair[1] == second)
}

/// Words looked at: enough for `START TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE`.
const WORDS_MAX: usize = 10;

/// The first words of the first statement, in capitals, without comments.
fn first_words(text: &[u8]) -> Vec<String> {
    let (mut words, mut rest) = (Vec::new(), text);
    while words.len() < WORDS_MAX {
        rest = after_blanks(rest, words.is_empty());
        let length = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
        if length == 0 {
            break;
        }
        words.push(String::from_utf8_lossy(&rest[..length]).to_ascii_uppercase());
        rest = &rest[length..];
    }
    words
}

/// Passes over blanks, comments and commas, and at the beginning over empty statements and parentheses.
fn after_blanks(mut text: &[u8], is_beginning: bool) -> &[u8] {
    loop {
        text = match text {
            [b'-', b'-', ..] => {
                let end = text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len());
                &text[end..]
            }
            [b'/', b'*', ..] => after_comment(text),
            [b';' | b'(', rest @ ..] if is_beginning => rest,
            [b',', rest @ ..] => rest,
            [byte, rest @ ..] if byte.is_ascii_whitespace() => rest,
            _ => return text,
        }
    }
}

/// Passes over a comment, which may have others in it.
fn after_comment(mut text: &[u8]) -> &[u8] {
    let mut depth = 0;
    loop {
        (depth, text) = match text {
            [b'/', b'*', rest @ ..] => (depth + 1, rest),
            [b'*', b'/', rest @ ..] => (depth - 1, rest),
            [_, rest @ ..] => (depth, rest),
            [] => return text,
        };
        if depth == 0 {
            return text;
        }
    }
}

/// Whether a statement sets a setting by a function.
pub fn calls_set_config(text: &[u8]) -> bool {
    has_word(text, b"set_config")
}

/// Whether a text has these lower-case bytes, in either case.
pub fn has_word(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
}

/// What a reader's refusal says of a statement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The writer is to do it.
    Forward,
    /// It is of a command that is not forwarded.
    Refuse(String),
}

/// What is forwarded, by the name that PostgreSQL has for it.
const FORWARDED: [&str; 12] = [
    // With something that writes in it.
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "MERGE",
    "SELECT FOR NO KEY UPDATE",
    "SELECT FOR KEY SHARE",
    "SELECT FOR UPDATE",
    "SELECT FOR SHARE",
    "nextval()",
    "setval()",
    "EXECUTE",
];

/// Reads a refusal: `cannot execute X in a read-only transaction`, or `cannot execute X during recovery`. In other languages
/// only the name is the same.
pub fn refusal(message: &str) -> Refusal {
    let english = message.strip_prefix("cannot execute ").and_then(|rest| {
        let end = rest.find(" in a read-only").or_else(|| rest.find(" during recovery"))?;
        Some(rest[..end].to_owned())
    });
    let capitals = || {
        let is_name =
            |word: &&str| word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'(');
        let words: Vec<&str> = message.split([' ', '«', '»', '"', '\'']).filter(is_name).collect();
        words.join(" ")
    };
    let function = ["nextval()", "setval()"].into_iter().find(|name| message.contains(name));
    let name = english.or(function.map(str::to_owned)).unwrap_or_else(capitals);
    match FORWARDED.contains(&name.as_str()) {
        true => Refusal::Forward,
        false => Refusal::Refuse(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_known_by_their_first_words() {
        for writes in ["insert into t", "/* a /* b */ */ -- c\n UPDATE t", ";; (delete from t)", "merge into t"] {
            assert_eq!(kind(writes.as_bytes()), Kind::Writes, "{writes}");
        }
        for other in ["select 1", "with x as (insert into t values (1)) select 1", "", "savepoint a", "rollback to a"] {
            assert_eq!(kind(other.as_bytes()), Kind::Other, "{other}");
        }
        assert_eq!(kind(b"begin isolation level repeatable read, read write"), Kind::BeginsToWrite);
        assert_eq!(kind(b"start transaction read only"), Kind::Other);
        assert_eq!((kind(b"commit"), kind(b"end;"), kind(b"Rollback")), (Kind::Ends, Kind::Ends, Kind::TakesBack));
        assert_eq!(kind(b"rollback work to savepoint a"), Kind::Other);
        assert_eq!(kind(b"commit prepared 'x'"), Kind::Refused("COMMIT PREPARED"));
        assert_eq!(kind(b"prepare transaction 'x'"), Kind::Refused("PREPARE TRANSACTION"));
        assert_eq!(kind(b"prepare p as select 1"), Kind::Settings);
        assert_eq!(kind(b"set constraints all deferred"), Kind::Refused("SET CONSTRAINTS"));
        assert_eq!(kind(b"create table t ()"), Kind::Refused("CREATE"));
        assert_eq!(kind(b"/* never ended"), Kind::Other);
        assert!(begins(b" begin") && begins(b"START TRANSACTION") && !begins(b"beginning"));
        assert!(calls_set_config(b"select Set_Config('a', 'b', true)"));
    }

    #[test]
    fn refusals_name_their_command() {
        let forwarded = ["INSERT", "SELECT FOR UPDATE", "SELECT FOR KEY SHARE", "nextval()", "MERGE"];
        for name in forwarded {
            assert_eq!(refusal(&format!("cannot execute {name} in a read-only transaction")), Refusal::Forward);
        }
        for name in ["CREATE TABLE", "SELECT INTO", "TRUNCATE TABLE", "COPY FROM", "LOCK TABLE"] {
            let text = format!("cannot execute {name} in a read-only transaction");
            assert_eq!(refusal(&text), Refusal::Refuse(name.to_owned()));
        }
        let listen = refusal("cannot execute LISTEN during recovery");
        assert_eq!(listen, Refusal::Refuse("LISTEN".to_owned()));
        assert_eq!(refusal("kann SELECT FOR UPDATE nicht in einer Read-Only-Transaktion ausführen"), Refusal::Forward);
    }
}
