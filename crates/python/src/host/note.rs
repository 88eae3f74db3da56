//! What one process tells another of an exception, in words: for the case that it cannot be pickled or unpickled.
//!
//! Three texts, each after its length in four bytes: the name of the type, the text, the traceback. Behind them is
//! the pickle of the exception, or nothing.

/// What each text is cut to: a note has to fit into the ring, several times.
const LONGEST: usize = 16 << 10;

/// The three texts as bytes. Of a long one the beginning is kept, of the traceback the end.
pub(crate) fn write([kind, text, traceback]: [&str; 3]) -> Vec<u8> {
    let texts = [start_of(kind), start_of(text), end_of(traceback)];
    let mut note = Vec::with_capacity(12 + texts.iter().map(|text| text.len()).sum::<usize>());
    for text in texts {
        let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
        note.extend_from_slice(&len.to_le_bytes());
        note.extend_from_slice(text.as_bytes());
    }
    note
}

fn start_of(text: &str) -> &str {
    let mut to = LONGEST.min(text.len());
    while !text.is_char_boundary(to) {
        to -= 1;
    }
    &text[..to]
}

fn end_of(text: &str) -> &str {
    let mut from = text.len().saturating_sub(LONGEST);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

/// The texts again; what does not make sense is empty, as the other process may write anything.
pub(crate) fn read(bytes: &[u8]) -> [String; 3] {
    read_with_rest(bytes).0
}

/// The texts, and what follows them.
pub(crate) fn read_with_rest(mut bytes: &[u8]) -> ([String; 3], &[u8]) {
    let texts = [(); 3].map(|()| {
        let Some((len, rest)) = bytes.split_first_chunk::<4>() else {
            return String::new();
        };
        let len = (u32::from_le_bytes(*len) as usize).min(rest.len());
        let (text, rest) = rest.split_at(len);
        bytes = rest;
        String::from_utf8_lossy(text).into_owned()
    });
    (texts, bytes)
}
