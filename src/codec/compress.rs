//! Block compression, by well-kept crates behind features.

/// How a table's blocks are compressed on disk.
///
/// Compression trades time of every first read of a block for space and write volume. A
/// compressed block is always read through the block cache, never straight from a mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// As they are: the fastest to read, and the default.
    #[default]
    None,
    /// LZ4: some 2 GB/s to unpack. Needs the feature `lz4` (on by default).
    Lz4,
    /// Zstandard at its level 3: smaller than LZ4, slower. Needs the feature `zstd`.
    Zstd,
}

#[cfg(feature = "zstd")]
const ZSTD_LEVEL: i32 = 3;

impl Compression {
    /// The number that says so on disk.
    pub(crate) fn id(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Lz4 => 1,
            Self::Zstd => 2,
        }
    }

    pub(crate) fn from_id(id: u8) -> Option<Self> {
        match id {
            0 => Some(Self::None),
            1 => Some(Self::Lz4),
            2 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Whether this build can read and write it.
    pub fn is_available(self) -> bool {
        match self {
            Self::None => true,
            Self::Lz4 => cfg!(feature = "lz4"),
            Self::Zstd => cfg!(feature = "zstd"),
        }
    }
}

/// Compresses `input`; `None` if that is not smaller (or not available in this build), so the
/// caller stores the bytes as they are.
pub(crate) fn compress(how: Compression, input: &[u8]) -> Option<Vec<u8>> {
    let output: Option<Vec<u8>> = match how {
        #[cfg(feature = "lz4")]
        Compression::Lz4 => Some(lz4_flex::block::compress(input)),
        #[cfg(feature = "zstd")]
        Compression::Zstd => zstd::bulk::compress(input, ZSTD_LEVEL).ok(),
        _ => None,
    };
    output.filter(|output| output.len() < input.len())
}

/// Unpacks to exactly `len` bytes; `None` if `input` does not. Allocates `len` bytes, which the
/// caller has bounded, whatever `input` claims.
pub(crate) fn decompress(how: Compression, input: &[u8], len: usize) -> Option<Vec<u8>> {
    let mut output = vec![0; len];
    let written: Option<usize> = match how {
        Compression::None => {
            output.get_mut(..input.len())?.copy_from_slice(input);
            Some(input.len())
        }
        #[cfg(feature = "lz4")]
        Compression::Lz4 => lz4_flex::block::decompress_into(input, &mut output).ok(),
        #[cfg(feature = "zstd")]
        Compression::Zstd => zstd::bulk::decompress_to_buffer(input, &mut output).ok(),
        #[allow(unreachable_patterns)] // Reachable where a feature is off.
        _ => None,
    };
    (written == Some(len)).then_some(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_refuses_garbage() {
        let text = b"one user, one year, one page. ".repeat(40);
        for how in [Compression::Lz4, Compression::Zstd] {
            assert!(how.is_available());
            let packed = compress(how, &text).unwrap();
            assert!(packed.len() < text.len() / 2);
            assert_eq!(decompress(how, &packed, text.len()).unwrap(), text);
            assert_eq!(decompress(how, &packed, text.len() - 1), None);
            assert_eq!(decompress(how, &packed, text.len() + 1), None);
            assert_eq!(decompress(how, &packed[..packed.len() - 3], text.len()), None);
            assert_eq!(decompress(how, &[0xff; 64], 4096), None);
        }
        assert!(compress(Compression::Lz4, b"short").is_none());
    }
}
