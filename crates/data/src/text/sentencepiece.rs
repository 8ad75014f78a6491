//! SentencePiece models: the pieces and the normaliser of a `ModelProto`
//! (`sentencepiece_model.proto`), read without a protobuf library.
//!
//! Of the message only these fields are read: `pieces = 1` (`piece = 1`, `score = 2`, `type = 3`),
//! `trainer_spec = 2` (`model_type = 3`) and `normalizer_spec = 3` (`precompiled_charsmap = 2`). Others are stepped over.

/// `TrainerSpec.ModelType.UNIGRAM`, the default.
const UNIGRAM: u64 = 1;

/// What kind of piece one is; `SentencePiece.Type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PieceType {
    /// A piece of text.
    Normal,
    /// A control symbol, such as `<s>`: never in a text.
    Control,
    /// A symbol that is never divided.
    UserDefined,
    /// The unknown piece, an unused one, or a byte.
    Other,
}

/// A piece with its log probability.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    pub text: String,
    pub score: f32,
    pub kind: PieceType,
}

/// What is needed of a model.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub pieces: Vec<Piece>,
    /// The compiled map of the normaliser; empty if it changes nothing.
    pub charsmap: Vec<u8>,
    pub is_unigram: bool,
}

/// Reads a model.
///
/// # Errors
/// What is wrong with the bytes.
pub(super) fn parse(bytes: &[u8]) -> Result<Model, String> {
    let mut model = Model {
        is_unigram: true,
        ..Model::default()
    };
    for field in Fields(bytes) {
        match field? {
            (1, Value::Bytes(piece)) => model.pieces.push(parse_piece(piece)?),
            (2, Value::Bytes(trainer)) => {
                for field in Fields(trainer) {
                    if let (3, Value::Number(kind)) = field? {
                        model.is_unigram = kind == UNIGRAM;
                    }
                }
            }
            (3, Value::Bytes(normalizer)) => {
                for field in Fields(normalizer) {
                    if let (2, Value::Bytes(charsmap)) = field? {
                        model.charsmap = charsmap.to_vec();
                    }
                }
            }
            _ => {}
        }
    }
    match model.pieces.is_empty() {
        true => Err("expected a SentencePiece model, found no pieces".to_owned()),
        false => Ok(model),
    }
}

fn parse_piece(bytes: &[u8]) -> Result<Piece, String> {
    let mut piece = Piece {
        text: String::new(),
        score: 0.0,
        kind: PieceType::Normal,
    };
    for field in Fields(bytes) {
        match field? {
            (1, Value::Bytes(text)) => {
                piece.text = std::str::from_utf8(text)
                    .map_err(|_| "a piece is not UTF-8".to_owned())?
                    .to_owned();
            }
            (2, Value::Fixed32(bits)) => piece.score = f32::from_bits(bits),
            (3, Value::Number(kind)) => {
                piece.kind = match kind {
                    1 => PieceType::Normal,
                    3 => PieceType::Control,
                    4 => PieceType::UserDefined,
                    _ => PieceType::Other,
                }
            }
            _ => {}
        }
    }
    Ok(piece)
}

/// A field's value by its wire type.
enum Value<'a> {
    Number(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
    /// A 64-bit value: none of those that are read.
    Fixed64,
}

/// The fields of a message, with their numbers. Ends after the first error.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(
            field.ok_or_else(|| {
                "expected a SentencePiece model, found a damaged message".to_owned()
            }),
        )
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => {
                self.take(8)?;
                Value::Fixed64
            }
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            _ => return None,
        };
        Some((key >> 3, value))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A message of one piece `ab` (score -1.5, control), a BPE trainer and a normaliser.
    const MODEL: &[u8] = &[
        0x0A, 0x0B, 0x0A, 2, b'a', b'b', 0x15, 0, 0, 0xC0, 0xBF, 0x18, 3, // piece
        0x12, 0x02, 0x18, 0x02, // trainer_spec.model_type = BPE
        0x1A, 0x05, 0x12, 0x03, 9, 8, 7, // normalizer_spec.precompiled_charsmap
        0x39, 0, 0, 0, 0, 0, 0, 0, 0, // an unknown 64-bit field
    ];

    #[test]
    fn pieces_and_normaliser_are_read() {
        let model = parse(MODEL).unwrap();
        let piece = Piece {
            text: "ab".to_owned(),
            score: -1.5,
            kind: PieceType::Control,
        };
        assert_eq!(model.pieces, [piece]);
        assert_eq!(model.charsmap, [9, 8, 7]);
        assert!(!model.is_unigram);
    }

    #[test]
    fn damaged_messages_are_errors() {
        // Every prefix is whole fields or an error, never a panic.
        for end in 0..MODEL.len() {
            let _ = parse(&MODEL[..end]);
        }
        assert_eq!(
            parse(&MODEL[..5]).unwrap_err(),
            "expected a SentencePiece model, found a damaged message"
        );
        assert_eq!(
            parse(b"").unwrap_err(),
            "expected a SentencePiece model, found no pieces"
        );
        let endless = [0xFF; 40];
        assert!(parse(&endless).is_err());
    }
}
