"""The vocabulary that api and worker both speak. Importing anything here opens nothing and reads no environment."""
