//! Masks into a DICOM SEG, and back.
