"""The mathematics: knows no Kedro, opens no file, reads no configuration."""
