//! Lines of what another process prints, each cut where it is too long.

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// Reads the next line, of at most so many bytes, in place of the one before; says whether there is one.
pub async fn next(input: &mut (impl AsyncBufRead + Unpin), most: u64, line: &mut Vec<u8>) -> bool {
    line.clear();
    matches!(input.take(most).read_until(b'\n', line).await, Ok(1..))
}
