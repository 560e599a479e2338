"""Checkups judged: alarms on healthy trainings, findings and cures on faulty ones."""
