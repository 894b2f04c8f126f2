//! Golden pictures of Pillow 11.3 (`Image.resize(size, Image.Resampling.BILINEAR)`).

use sha2::{Digest, Sha256};

use super::*;

/// `((rows, columns), pixels)`
type Shaped = ((usize, usize), &'static [u8]);

struct Golden {
    from: Shaped,
    to: Shaped,
}

fn picture(((rows, columns), pixels): Shaped) -> Picture {
    Picture { rows, columns, pixels: pixels.to_vec() }
}

#[test]
fn small_pictures_are_pillows_byte_by_byte() {
    let goldens = [
        Golden {
            from: ((3, 5), &[139, 74, 229, 241, 169, 65, 6, 160, 149, 106, 38, 175, 188, 205, 175]),
            to: (
                (7, 4),
                &[
                    123, 139, 236, 187, 113, 129, 224, 177, 81, 100, 189, 147, 50, 70, 154, 117,
                    59, 117, 173, 145, 69, 164, 192, 174, 72, 180, 198, 183,
                ],
            ),
        },
        Golden {
            from: (
                (6, 4),
                &[
                    98, 249, 10, 148, 95, 86, 147, 198, 66, 39, 106, 213, 171, 45, 167, 57, 69, 81,
                    55, 14, 153, 178, 215, 76,
                ],
            ),
            to: (
                (2, 9),
                &[
                    98, 100, 105, 110, 108, 105, 131, 160, 172, 115, 111, 100, 93, 110, 127, 104,
                    76, 65,
                ],
            ),
        },
        Golden {
            from: (
                (9, 7),
                &[
                    52, 39, 250, 72, 215, 50, 161, 223, 112, 172, 161, 233, 38, 17, 89, 1, 221, 6,
                    242, 127, 143, 6, 60, 210, 94, 25, 166, 33, 249, 189, 12, 204, 33, 57, 124, 30,
                    199, 149, 202, 119, 72, 220, 3, 209, 122, 136, 147, 77, 133, 82, 115, 87, 162,
                    230, 70, 71, 240, 62, 47, 184, 31, 34, 63,
                ],
            ),
            to: (
                (9, 3),
                &[
                    89, 144, 125, 165, 170, 72, 80, 119, 157, 73, 107, 88, 173, 109, 76, 128, 162,
                    135, 117, 136, 112, 97, 152, 105, 122, 100, 44,
                ],
            ),
        },
        Golden {
            from: (
                (4, 4),
                &[146, 197, 142, 253, 81, 133, 240, 113, 30, 247, 103, 122, 31, 19, 42, 129],
            ),
            to: (
                (4, 4),
                &[146, 197, 142, 253, 81, 133, 240, 113, 30, 247, 103, 122, 31, 19, 42, 129],
            ),
        },
        Golden {
            from: (
                (5, 6),
                &[
                    141, 136, 33, 149, 161, 0, 178, 141, 107, 35, 107, 130, 72, 27, 217, 254, 99,
                    13, 195, 206, 59, 228, 235, 202, 183, 47, 69, 179, 82, 35,
                ],
            ),
            to: ((1, 1), &[128]),
        },
        Golden {
            from: ((1, 2), &[110, 121]),
            to: (
                (5, 3),
                &[110, 116, 121, 110, 116, 121, 110, 116, 121, 110, 116, 121, 110, 116, 121],
            ),
        },
    ];
    for Golden { from, to } in goldens {
        let ((rows, columns), _) = to;
        assert_eq!(picture(from).resized(rows, columns), picture(to), "{from:?}");
    }
}

/// `((7 * row + 13 * column + row * column // 5) % 256)`, 181 rows by 217 columns.
#[test]
fn larger_pictures_are_pillows_byte_by_byte() {
    let pixel = |at: usize| {
        let (row, column) = (at / 217, at % 217);
        ((row * 7 + column * 13 + row * column / 5) % 256) as u8
    };
    let large = Picture { rows: 181, columns: 217, pixels: (0..181 * 217).map(pixel).collect() };
    let goldens = [
        ((107, 128), "ece1061ddc830afb5313e228c456ec8084837c39fc1a4542e63736b6ec721bb2"),
        ((448, 448), "4deb4e187c97b6c0f129641ad037c1d0c0ad19de224b0f5e95346c21c14bd120"),
        ((300, 97), "253feb1079434456d734f49f2ed5669fca68460fcf279209e813e1c3409adcad"),
    ];
    for ((rows, columns), expected) in goldens {
        let resized = large.resized(rows, columns);
        assert_eq!(hex::encode(Sha256::digest(&resized.pixels)), expected, "{rows} x {columns}");
    }
}
