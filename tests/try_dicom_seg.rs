mod dicom_seg;
