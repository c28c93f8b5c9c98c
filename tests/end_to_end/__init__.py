"""Tests of whole runs on the engines that users run."""
