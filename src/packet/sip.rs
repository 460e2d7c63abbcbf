//! The Call-ID of a SIP message (RFC 3261 section 20.8).
//!
//! Kept from the kernel (`nf_conntrack_sip`, which `ip_vs_pe_sip` asks): lines end with CR, LF or
//! both; a header may go on in lines that begin with a blank; the compact form `i` is known; the
//! first line is never a header; which bytes a Call-ID is made of, Latin-1 letters among them. Where
//! a header has no word it looks on further down, not in the next line.
//!
//! Left out on purpose: everything else that SIP says.

/// Bytes of the longest Call-ID that is used (`IP_VS_PEDATA_MAXLEN`).
pub const CALL_ID_MAX: usize = 255;

/// The Call-ID in the data of a UDP datagram; `None` if there is none, or none that can be used: it
/// is too long, or something follows it on its line.
pub fn call_id(data: &[u8]) -> Option<&[u8]> {
    let mut from = 0;
    loop {
        let at = header(data, from)?;
        let len = word_at_word(&data[at..]);
        if len > 0 {
            let end = data.get(at + len)?;
            return (len <= CALL_ID_MAX && is_newline(*end)).then(|| &data[at..at + len]);
        }
        // The kernel adds where it found the header to where it began to look.
        from += at;
    }
}

/// Where the value of the next Call-ID header begins that stands after a line end at `from` or later.
fn header(data: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while at < data.len() {
        if !is_newline(data[at]) {
            at += 1;
            continue;
        }
        at = after_newline(data, at)?;
        match name(&data[at..]) {
            Some(len) => {
                let colon = skip_blanks(data, at + len)?;
                return (data[colon] == b':').then(|| skip_blanks(data, colon + 1))?;
            }
            None => at += 1,
        }
    }
    None
}

/// The length of the header's name, if a line begins with it. The compact form is not one of a word
/// that goes on.
fn name(line: &[u8]) -> Option<usize> {
    const LONG: &[u8] = b"call-id";
    if line.get(..LONG.len()).is_some_and(|start| start.eq_ignore_ascii_case(LONG)) {
        return Some(LONG.len());
    }
    let compact = matches!(line, [b'i' | b'I', next, ..] if !is_letter(*next));
    compact.then_some(1)
}

/// Behind the newline at `at`; `None` at the end.
fn after_newline(data: &[u8], at: usize) -> Option<usize> {
    let both = data[at] == b'\r' && data.get(at + 1) == Some(&b'\n');
    let next = at + if both { 2 } else { 1 };
    (next < data.len()).then_some(next)
}

/// Behind blanks and at most one newline that a blank follows; `None` at the end of the data or of
/// the header.
fn skip_blanks(data: &[u8], from: usize) -> Option<usize> {
    let blanks = |from: usize| {
        let rest = data.get(from..)?;
        rest.iter().position(|&byte| !is_blank(byte)).map(|count| from + count)
    };
    let at = blanks(from)?;
    if !is_newline(data[at]) {
        return Some(at);
    }
    let next = after_newline(data, at)?;
    is_blank(data[next]).then(|| blanks(next))?
}

/// The length of `word` or `word@word`; 0 if there is neither.
fn word_at_word(text: &[u8]) -> usize {
    let word = |text: &[u8]| text.iter().take_while(|&&byte| is_word(byte)).count();
    let first = word(text);
    if first == 0 || text.get(first) != Some(&b'@') {
        return first;
    }
    match word(&text[first + 1..]) {
        0 => 0,
        second => first + 1 + second,
    }
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

const fn is_newline(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// Latin-1's letters are the kernel's, too.
const fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || (byte >= 0xc0 && byte != 0xd7 && byte != 0xf7)
}

const fn is_word(byte: u8) -> bool {
    let sign = matches!(
        byte,
        b'!' | b'"' | b'%' | b'\'' | b'('..=b'+' | b'-'..=b'/' | b':' | b'<' | b'>' | b'?'
            | b'['..=b']' | b'_' | b'`' | b'{' | b'}' | b'~'
    );
    sign || byte.is_ascii_digit() || is_letter(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<&str> {
        let id = call_id(text.as_bytes())?;
        Some(std::str::from_utf8(id).expect("these are ASCII"))
    }

    #[test]
    fn a_call_id_is_found_however_its_header_is_spelt() {
        for header in ["Call-ID: a@h", "CALL-id:a@h", "i: a@h", "I \t: \t a@h"] {
            for end in ["\r\n", "\n", "\r"] {
                assert_eq!(found(&format!("INVITE x{end}{header}{end}")), Some("a@h"), "{header}");
            }
        }
        assert_eq!(found("INVITE x\r\nCall-ID\r\n :\r\n\ta\r\n"), Some("a"));
    }

    #[test]
    fn what_is_no_call_id_is_none() {
        for text in [
            "",
            "\r\n",
            "\r\ni",
            "\r\ni:",
            "\r\ni: ",
            "\r\nCall-ID",
            "\r\nCall-ID: \r\nCall-ID: good\r\n",
            "\r\nCall-ID: end",
            "Call-ID: first-line\r\n",
            "x\r\nix: a\r\n",
            "x\r\n i: a\r\n",
            "x\r\ni: a;b\r\n",
            "x\r\ni: a@\r\n",
            "x\r\ni: a@b@c\r\n",
            "x\r\nCall-IDx: a\r\n",
        ] {
            assert_eq!(found(text), None, "{text:?}");
        }
        let long = |len| format!("x\ni: {}\n", "x".repeat(len));
        assert!(found(&long(CALL_ID_MAX)).is_some() && found(&long(CALL_ID_MAX + 1)).is_none());
    }

    #[test]
    fn no_data_panics_and_what_is_found_lies_on_a_line_of_its_own() {
        let mut rng = crate_free_rng();
        let letters = b"iI:cCall-ID@ \t\r\nxy\xe9;";
        for _ in 0..20_000 {
            let data: Vec<u8> = (0..rng() % 40).map(|_| letters[rng() % letters.len()]).collect();
            if let Some(id) = call_id(&data) {
                assert!(!id.is_empty() && id.iter().all(|&byte| is_word(byte) || byte == b'@'));
            }
        }
    }

    /// This room knows no other; chance is made here.
    fn crate_free_rng() -> impl FnMut() -> usize {
        let mut state = 0x2545_f491_u32;
        move || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as usize
        }
    }
}
