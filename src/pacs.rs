//! Other nodes: DICOMweb servers and DIMSE peers.
