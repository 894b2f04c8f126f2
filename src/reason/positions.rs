//! Where patches and tokens are: what Qwen3-VL's graphs leave to the host.

use ndarray::Array2;

use super::ReasonError;
use super::picture::Grid;

/// Positions of the patches of one picture, in merge-block order.
#[derive(Debug, Clone, PartialEq)]
pub struct PatchPositions {
    /// Row and column of each patch, `(patches, 2)`: for the rotary embedding.
    pub ids: Array2<i64>,
    /// Four cells of the learned position grid around each patch, `(patches, 4)`.
    pub indices: Array2<i64>,
    /// Their bilinear weights, `(patches, 4)`.
    pub weights: Array2<f32>,
}

/// Positions of the patches of a picture over a learned grid of `side` × `side` cells.
///
/// Corners are aligned: the first and last patch meet the first and last cell.
pub fn patch_positions(grid: Grid, merge: usize, side: usize) -> PatchPositions {
    let order = grid.merge_order(merge);
    let (mut ids, mut indices, mut weights) = (Vec::new(), Vec::new(), Vec::new());
    for &[row, column] in &order {
        ids.extend([row as i64, column as i64]);
        let across = taps(column, grid.columns, side);
        for (row_cell, row_weight) in taps(row, grid.rows, side) {
            for (column_cell, column_weight) in across {
                indices.push((row_cell * side + column_cell) as i64);
                weights.push(row_weight * column_weight);
            }
        }
    }
    let count = order.len();
    let whole = "four taps and two ids for each patch";
    PatchPositions {
        ids: Array2::from_shape_vec((count, 2), ids).expect(whole),
        indices: Array2::from_shape_vec((count, 4), indices).expect(whole),
        weights: Array2::from_shape_vec((count, 4), weights).expect(whole),
    }
}

/// The two cells around position `index` of `count` along one axis, with weights.
fn taps(index: usize, count: usize, side: usize) -> [(usize, f32); 2] {
    let at = index as f32 * (side - 1) as f32 / count.saturating_sub(1).max(1) as f32;
    let low = at.floor();
    // Written as the reference rounds it: both weights come from distances taken from 1.
    let low_weight = 1.0 - (at - low);
    let high_weight = 1.0 - low_weight;
    let first = low as usize;
    [(first.min(side - 1), low_weight), ((first + 1).min(side - 1), high_weight)]
}

/// Positions of the tokens of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenPositions {
    /// Time, row and column of each token, `(3, tokens)`.
    pub ids: Array2<i64>,
    /// Position of the next token, the same on all three axes.
    pub next: i64,
}

/// MRoPE positions of a prompt whose `image` tokens stand for pictures of the given merged grids,
/// in order.
///
/// Text counts up on all three axes. The tokens of a picture share one time; their rows and columns
/// count from there; the text after it goes on at start + max(rows, columns), not after as many
/// positions as there are tokens.
///
/// # Errors
/// When the image tokens of the prompt are not exactly those of the grids.
pub fn token_positions(
    tokens: &[u32],
    image: u32,
    grids: &[Grid],
) -> Result<TokenPositions, ReasonError> {
    let found = tokens.iter().filter(|&&token| token == image).count();
    let expected = grids.iter().map(|grid| grid.patch_count()).sum();
    if found != expected {
        return Err(ReasonError::ImageTokens { expected, found });
    }
    let mut ids = Array2::zeros((3, tokens.len()));
    let (mut next, mut at) = (0_i64, 0);
    let mut waiting = grids.iter();
    while at < tokens.len() {
        let picture = if tokens[at] == image { waiting.next() } else { None };
        let Some(grid) = picture else {
            ids.column_mut(at).fill(next);
            (next, at) = (next + 1, at + 1);
            continue;
        };
        if tokens[at..].iter().take_while(|&&t| t == image).count() < grid.patch_count() {
            return Err(ReasonError::ImageTokens { expected, found });
        }
        for row in 0..grid.rows {
            for column in 0..grid.columns {
                ids[[0, at]] = next;
                ids[[1, at]] = next + row as i64;
                ids[[2, at]] = next + column as i64;
                at += 1;
            }
        }
        next += grid.rows.max(grid.columns) as i64;
    }
    Ok(TokenPositions { ids, next })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_after_a_picture_goes_on_after_its_longer_side() {
        let tokens = [1, 9, 9, 9, 9, 9, 9, 2, 3];
        let found = token_positions(&tokens, 9, &[Grid { rows: 2, columns: 3 }]).expect("fits");
        let rows: Vec<Vec<i64>> = found.ids.rows().into_iter().map(|r| r.to_vec()).collect();
        assert_eq!(rows[0], [0, 1, 1, 1, 1, 1, 1, 4, 5]);
        assert_eq!(rows[1], [0, 1, 1, 1, 2, 2, 2, 4, 5]);
        assert_eq!(rows[2], [0, 1, 2, 3, 1, 2, 3, 4, 5]);
        assert_eq!(found.next, 6);
    }

    #[test]
    fn refuses_image_tokens_without_a_picture() {
        let square = Grid { rows: 1, columns: 1 };
        for (tokens, grids) in [(vec![1, 9, 2], vec![]), (vec![1, 2], vec![square])] {
            token_positions(&tokens, 9, &grids).expect_err("counts differ");
        }
        let broken = [9, 1, 9];
        token_positions(&broken, 9, &[Grid { rows: 1, columns: 2 }]).expect_err("a torn picture");
    }

    #[test]
    fn corners_of_the_picture_meet_corners_of_the_grid() {
        let found = patch_positions(Grid { rows: 4, columns: 6 }, 2, 48);
        assert_eq!(found.indices.row(0).to_vec(), [0, 1, 48, 49]);
        assert_eq!(found.weights.row(0).to_vec(), [1.0, 0.0, 0.0, 0.0]);
        let last = found.indices.nrows() - 1;
        assert_eq!(found.indices[[last, 0]], 48 * 48 - 1);
        assert_eq!(found.weights[[last, 0]], 1.0);
        assert!(found.weights.rows().into_iter().all(|w| (w.sum() - 1.0).abs() < 1e-6));
    }

    #[test]
    fn a_single_row_of_patches_stays_at_the_first_cell() {
        assert_eq!(taps(0, 1, 16), [(0, 1.0), (1, 0.0)]);
    }
}
