"""Entry sheets: grades as files for spreadsheets and learning management systems (LMS), and back. Pure."""
