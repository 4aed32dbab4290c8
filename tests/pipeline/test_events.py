"""Events of several backups at once."""

from pipeline.events import CombinedProgress, Event, Notice, Progress, Started


def test_the_progress_of_several_backups_is_added_up() -> None:
    events: list[Event] = []
    together = CombinedProgress(events.append)
    shop, blog = together.notify_of("shop"), together.notify_of("blog")
    shop(Started("Dumping shop"))
    shop(Progress(10, 100, 5, ("public.item", "public.order")))
    blog(Notice("odd"))
    blog(Progress(1, 20, 1))
    shop(Progress(100, 100, 50))
    assert events == [
        Started("Dumping shop"),
        Progress(10, 100, 5, ("shop: public.item",)),
        Notice("odd"),
        Progress(11, 120, 6, ("shop: public.item",)),
        Progress(101, 120, 51),
    ]
