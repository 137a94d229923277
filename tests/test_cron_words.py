from __future__ import annotations

import pytest

from flowsched import cron


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("* * * * *", "Every minute"),
        ("*/1 0-23 * * 0-7", "Every minute"),
        ("*/15 * * * *", "Every 15 minutes"),
        ("0/15 * * * *", "Every 15 minutes"),
        ("5 * * * *", "At minute 5 of every hour"),
        ("0,30 * * * *", "At minutes 0 and 30 of every hour"),
        ("0-10 * * * *", "At minutes 0 to 10 of every hour"),
        ("5,10-20,25/7,5 * * * *", "At minutes 5, 10 to 20 and every 7th from 25 to 53 of every hour"),
        # A step that does not go round evenly is not every so many minutes.
        ("*/7 * * * *", "At every 7th minute from 0 to 56 of every hour"),
        ("*/40 * * * *", "At minutes 0 and 40 of every hour"),
        ("*/90 * * * *", "At minute 0 of every hour"),
        ("5/15 * * * *", "At every 15th minute from 5 to 50 of every hour"),
        ("1-50/11 * * * *", "At every 11th minute from 1 to 45 of every hour"),
        ("* 2 * * *", "Every minute of hour 2, every day"),
        ("*/15 9-17 * * 1-5", "Every 15 minutes of hours 9 to 17, on Monday to Friday"),
        ("0 */2 * * *", "At minute 0 of every 2nd hour from 0 to 22, every day"),
        ("30 2 * * *", "At 02:30 every day"),
        ("0 6,18 * * *", "At 06:00 and 18:00 every day"),
        ("0 */6 * * *", "At 00:00, 06:00, 12:00 and 18:00 every day"),
        ("0,30 9-11 * * *", "At 09:00, 09:30, 10:00, 10:30, 11:00 and 11:30 every day"),
        ("0 0 1 * *", "At 00:00 on day 1 of the month"),
        ("0 0 1,15 * *", "At 00:00 on days 1 and 15 of the month"),
        ("0 0 1-7,L * *", "At 00:00 on days 1 to 7 and the last day of the month"),
        ("0 0 L 2 *", "At 00:00 on the last day of February"),
        ("0 0 29 2 *", "At 00:00 on day 29 of February"),
        ("0 0 1 */3 *", "At 00:00 on day 1 of January, April, July and October"),
        ("0 0 * 1,6-8 *", "At 00:00 every day in January and June to August"),
        ("* * * 1 *", "Every minute, in January"),
        ("0 8 * * mon", "At 08:00 on Monday"),
        ("0 8 * * 0,7", "At 08:00 on Sunday"),
        ("0 8 * * 5-7", "At 08:00 on Friday to Sunday"),
        ("0 8 * * */2", "At 08:00 on Sunday, Tuesday, Thursday and Saturday"),
        ("0 8 * 3 MON", "At 08:00 on Monday in March"),
        ("0 8 * * 5#2", "At 08:00 on the second Friday of the month"),
        ("0 8 * 3 7L", "At 08:00 on the last Sunday of March"),
        ("0 8 * * 1,5L", "At 08:00 on Monday and the last Friday of the month"),
        # Either day field is enough ...
        ("0 0 13 * 5", "At 00:00 on day 13 of the month and also on Friday"),
        ("0 0 13 3 5", "At 00:00 on day 13 of March and also on Friday in March"),
        ("0 0 L * 1#1", "At 00:00 on the last day of the month and also on the first Monday of the month"),
        ("0 0 1-31 * 1", "At 00:00 every day"),
        ("0 0 13 6 0-6", "At 00:00 every day in June"),
        # ... unless one begins with a star.
        ("0 0 */10 * 1", "At 00:00 on every 10th day from 1 to 31 of the month if it is Monday"),
        ("0 0 */15 * 1,3", "At 00:00 on days 1, 16 and 31 of the month if it is Monday or Wednesday"),
        ("0 0 13 * */3", "At 00:00 on day 13 of the month if it is Sunday, Wednesday or Saturday"),
        ("0 0 */1 * 1", "At 00:00 on Monday"),
        ("@hourly", "At minute 0 of every hour"),
        ("@daily", "At 00:00 every day"),
        ("@midnight", "At 00:00 every day"),
        ("@weekly", "At 00:00 on Sunday"),
        ("@monthly", "At 00:00 on day 1 of the month"),
        ("@yearly", "At 00:00 on day 1 of January"),
        ("@Annually", "At 00:00 on day 1 of January"),
    ],
)
def test_an_expression_is_explained_in_words(expression: str, words: str) -> None:
    assert cron.parse(expression).explain() == words


@pytest.mark.parametrize(
    ("step", "ordinal"), [(2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (12, "12th"), (13, "13th")]
)
def test_steps_are_counted_as_people_count(step: int, ordinal: str) -> None:
    words = cron.parse(f"1/{step} * * * *").explain()

    assert words.startswith(f"At every {ordinal} minute from 1 to ")
