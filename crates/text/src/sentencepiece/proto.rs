//! The protobuf of a SentencePiece model, read with bounds; fields that are not needed are skipped.

use crate::error::{Error, Result};

/// What a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ModelType {
    Unigram,
    Bpe,
    Word,
    Char,
}

#[derive(Clone, Debug)]
pub(super) struct Piece<'b> {
    pub(super) text: &'b str,
    pub(super) score: f32,
    pub(super) kind: Kind,
}

/// The fields of the model that tokenizing needs, with protobuf's defaults.
#[derive(Clone, Debug)]
pub(super) struct ModelProto {
    pub(super) model_type: ModelType,
    pub(super) byte_fallback: bool,
    pub(super) treat_whitespace_as_suffix: bool,
    pub(super) bos_id: i32,
    pub(super) eos_id: i32,
    pub(super) bos_piece: String,
    pub(super) eos_piece: String,
    pub(super) unk_surface: String,
    pub(super) charsmap: Vec<u8>,
    pub(super) add_dummy_prefix: bool,
    pub(super) remove_extra_whitespaces: bool,
    pub(super) escape_whitespaces: bool,
}

/// A value on the wire.
enum Field<'b> {
    Varint(u64),
    Fixed32([u8; 4]),
    Bytes(&'b [u8]),
    Skipped,
}

/// Reads the fields of one message, one after the other.
struct Message<'b> {
    rest: &'b [u8],
    name: &'static str,
}

impl<'b> Message<'b> {
    fn cut_off(&self) -> Error {
        Error::invalid(format!("{}: cut off, or no protobuf", self.name))
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0_u64;
        for n in 0..10 {
            let (&byte, rest) = self.rest.split_first().ok_or_else(|| self.cut_off())?;
            self.rest = rest;
            value |= u64::from(byte & 0x7F) << (7 * n);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.cut_off())
    }

    fn take(&mut self, len: u64) -> Result<&'b [u8]> {
        let len = usize::try_from(len).ok().filter(|len| *len <= self.rest.len()).ok_or_else(|| self.cut_off())?;
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        Ok(taken)
    }

    fn next(&mut self) -> Result<Option<(u64, Field<'b>)>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let field = match key & 7 {
            0 => Field::Varint(self.varint()?),
            1 => {
                self.take(8)?;
                Field::Skipped
            }
            2 => {
                let len = self.varint()?;
                Field::Bytes(self.take(len)?)
            }
            5 => Field::Fixed32(self.take(4)?.try_into().map_err(|_| self.cut_off())?),
            _ => return Err(self.cut_off()),
        };
        Ok(Some((key >> 3, field)))
    }
}

fn text<'b>(bytes: &'b [u8], name: &str) -> Result<&'b str> {
    std::str::from_utf8(bytes).map_err(|_| Error::invalid(format!("{name}: not UTF-8")))
}

fn piece<'b>(bytes: &'b [u8], at: usize) -> Result<Piece<'b>> {
    let mut piece = Piece { text: "", score: 0.0, kind: Kind::Normal };
    let mut message = Message { rest: bytes, name: "pieces" };
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (1, Field::Bytes(bytes)) => piece.text = text(bytes, &format!("pieces[{at}]"))?,
            (2, Field::Fixed32(bytes)) => piece.score = f32::from_le_bytes(bytes),
            (3, Field::Varint(kind)) => {
                piece.kind = match kind {
                    1 => Kind::Normal,
                    2 => Kind::Unknown,
                    3 => Kind::Control,
                    4 => Kind::UserDefined,
                    5 => Kind::Unused,
                    6 => Kind::Byte,
                    _ => return Err(Error::invalid(format!("pieces[{at}].type: {kind} is none"))),
                }
            }
            _ => {}
        }
    }
    Ok(piece)
}

impl ModelProto {
    /// Whether the first field is a whole piece, as it is in every model.
    pub(super) fn first_piece_is_sound(bytes: &[u8]) -> bool {
        let mut message = Message { rest: bytes, name: "model" };
        matches!(message.next(), Ok(Some((1, Field::Bytes(bytes)))) if piece(bytes, 0).is_ok_and(|p| !p.text.is_empty()))
    }

    /// Reads a model: its pieces, which borrow from the file, and its settings.
    pub(super) fn read(bytes: &[u8]) -> Result<(Vec<Piece<'_>>, Self)> {
        let mut proto = ModelProto {
            model_type: ModelType::Unigram,
            byte_fallback: false,
            treat_whitespace_as_suffix: false,
            bos_id: 1,
            eos_id: 2,
            bos_piece: "<s>".into(),
            eos_piece: "</s>".into(),
            unk_surface: " \u{2047} ".into(),
            charsmap: Vec::new(),
            add_dummy_prefix: true,
            remove_extra_whitespaces: true,
            escape_whitespaces: true,
        };
        let mut pieces = Vec::new();
        let mut message = Message { rest: bytes, name: "model" };
        while let Some((number, field)) = message.next()? {
            match (number, field) {
                (1, Field::Bytes(bytes)) => pieces.push(piece(bytes, pieces.len())?),
                (2, Field::Bytes(bytes)) => proto.trainer(bytes)?,
                (3, Field::Bytes(bytes)) => proto.normalizer(bytes)?,
                _ => {}
            }
        }
        Ok((pieces, proto))
    }

    fn trainer(&mut self, bytes: &[u8]) -> Result<()> {
        let mut message = Message { rest: bytes, name: "trainer_spec" };
        while let Some((number, field)) = message.next()? {
            match (number, field) {
                (3, Field::Varint(kind)) => {
                    self.model_type = match kind {
                        1 => ModelType::Unigram,
                        2 => ModelType::Bpe,
                        3 => ModelType::Word,
                        4 => ModelType::Char,
                        _ => return Err(Error::invalid(format!("trainer_spec.model_type: {kind} is none"))),
                    }
                }
                (24, Field::Varint(flag)) => self.treat_whitespace_as_suffix = flag != 0,
                (35, Field::Varint(flag)) => self.byte_fallback = flag != 0,
                // ids are signed; negative ones (switched off) stand as ten-byte varints
                (41, Field::Varint(id)) => self.bos_id = i32::try_from(id.cast_signed()).unwrap_or(-1),
                (42, Field::Varint(id)) => self.eos_id = i32::try_from(id.cast_signed()).unwrap_or(-1),
                (44, Field::Bytes(bytes)) => self.unk_surface = text(bytes, "trainer_spec.unk_surface")?.into(),
                (46, Field::Bytes(bytes)) => self.bos_piece = text(bytes, "trainer_spec.bos_piece")?.into(),
                (47, Field::Bytes(bytes)) => self.eos_piece = text(bytes, "trainer_spec.eos_piece")?.into(),
                _ => {}
            }
        }
        Ok(())
    }

    fn normalizer(&mut self, bytes: &[u8]) -> Result<()> {
        let mut message = Message { rest: bytes, name: "normalizer_spec" };
        while let Some((number, field)) = message.next()? {
            match (number, field) {
                (2, Field::Bytes(bytes)) => self.charsmap = bytes.to_vec(),
                (3, Field::Varint(flag)) => self.add_dummy_prefix = flag != 0,
                (4, Field::Varint(flag)) => self.remove_extra_whitespaces = flag != 0,
                (5, Field::Varint(flag)) => self.escape_whitespaces = flag != 0,
                _ => {}
            }
        }
        Ok(())
    }
}
