//! Cuts PTX into tokens.

/// The smallest part of PTX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A name or an instruction with its modifiers.
    Word(&'a str),
    Integer(u64),
    Single(u32),
    Double(u64),
    /// What stands between quotation marks.
    Text(&'a str),
    Mark(u8),
}

/// A token and the line where it stands, from 1.
pub(super) type Placed<'a> = (Token<'a>, u32);

/// All tokens, or the line of what is none.
pub(super) fn tokens(text: &str) -> Result<Vec<Placed<'_>>, u32> {
    let bytes = text.as_bytes();
    let mut found = Vec::with_capacity(bytes.len() / 4);
    let (mut at, mut line) = (0, 1);
    while let Some(&byte) = bytes.get(at) {
        let rest = &text[at..];
        let start = at;
        match byte {
            b'\n' => {
                line += 1;
                at += 1;
            }
            b' ' | b'\t' | b'\r' | 0 => at += 1,
            b'/' if rest.starts_with("//") => at += rest.find('\n').unwrap_or(rest.len()),
            b'/' if rest.starts_with("/*") => {
                let length = rest.find("*/").ok_or(line)? + 2;
                line += count_lines(&rest[..length]);
                at += length;
            }
            b'"' => {
                let length = rest[1..].find('"').ok_or(line)?;
                found.push((Token::Text(&rest[1..=length]), line));
                at += length + 2;
            }
            b'0'..=b'9' => {
                at += rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
                found.push((number(&text[start..at]).ok_or(line)?, line));
            }
            byte if in_word(byte) => {
                at += word(rest);
                found.push((Token::Word(&text[start..at]), line));
            }
            byte if byte.is_ascii() => {
                found.push((Token::Mark(byte), line));
                at += 1;
            }
            _ => return Err(line),
        }
    }
    Ok(found)
}

fn count_lines(text: &str) -> u32 {
    u32::try_from(text.bytes().filter(|&byte| byte == b'\n').count()).unwrap_or(u32::MAX)
}

fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'%' | b'.')
}

/// The length of a word: `ld.global.L2::128B` is one, `label:` is one and a mark.
fn word(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut length = 0;
    loop {
        let rest = &bytes[length..];
        if rest.first().is_some_and(|&byte| in_word(byte)) {
            length += 1;
        } else if rest.starts_with(b"::") && rest.get(2).is_some_and(|&byte| in_word(byte)) {
            length += 2;
        } else {
            return length;
        }
    }
}

/// `12`, `12U`, `0x1f`, `0b1`, `017`, `0f3F800000`, `0d3FF0000000000000`.
fn number(text: &str) -> Option<Token<'_>> {
    let digits = text.strip_suffix(['U', 'u']).unwrap_or(text);
    Some(match text.get(..2) {
        Some("0f" | "0F") => Token::Single(u32::from_str_radix(&text[2..], 16).ok()?),
        Some("0d" | "0D") => Token::Double(u64::from_str_radix(&text[2..], 16).ok()?),
        Some("0x" | "0X") => Token::Integer(u64::from_str_radix(&digits[2..], 16).ok()?),
        Some("0b" | "0B") => Token::Integer(u64::from_str_radix(&digits[2..], 2).ok()?),
        _ if digits.len() > 1 && digits.starts_with('0') => {
            Token::Integer(u64::from_str_radix(digits, 8).ok()?)
        }
        _ => Token::Integer(digits.parse().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::{Token, tokens};

    #[test]
    fn an_instruction_is_cut_at_its_marks() {
        let text = "// note\n@!%p1 ld.global.L2::128B.v2.f32 {%f1,%f2}, [%rd4+-8]; $L_1:\n";
        let expected = [
            Token::Mark(b'@'),
            Token::Mark(b'!'),
            Token::Word("%p1"),
            Token::Word("ld.global.L2::128B.v2.f32"),
            Token::Mark(b'{'),
            Token::Word("%f1"),
            Token::Mark(b','),
            Token::Word("%f2"),
            Token::Mark(b'}'),
            Token::Mark(b','),
            Token::Mark(b'['),
            Token::Word("%rd4"),
            Token::Mark(b'+'),
            Token::Mark(b'-'),
            Token::Integer(8),
            Token::Mark(b']'),
            Token::Mark(b';'),
            Token::Word("$L_1"),
            Token::Mark(b':'),
        ];
        assert_eq!(tokens(text).unwrap(), expected.map(|token| (token, 2)));
    }

    #[test]
    fn numbers_have_their_bases() {
        let found = tokens("12 0x1F 0f3F800000 0d3FF0000000000000 010 7U").unwrap();
        let expected = [
            Token::Integer(12),
            Token::Integer(31),
            Token::Single(1.0_f32.to_bits()),
            Token::Double(1.0_f64.to_bits()),
            Token::Integer(8),
            Token::Integer(7),
        ];
        assert_eq!(found, expected.map(|token| (token, 1)));
        assert_eq!(tokens("\n\n12q"), Err(3));
    }
}
