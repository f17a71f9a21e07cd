"""What networks are made of and executed with, whatever their family; torch only, no files, no devices."""
