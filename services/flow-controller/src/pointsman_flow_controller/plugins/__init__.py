"""What users choose by name in an EndpointPickerConfig; listed in catalogue.py."""
