"""Results for other programs: SQL, CSV, JUnit XML, data frames."""
