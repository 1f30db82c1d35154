"""Running a job where the files are: in this process, in another one, later over SSH; the same job and the same result."""
