/**
 * How long to wait after a key press before asking: nothing where people stop to think (after a space, a bracket, a
 * pause), more the faster they type and the slower the agent has been. Pure: the caller gives the time.
 */
const SMOOTHING = 0.3;
const PAUSE_MS = 600;
const BOUNDARY = /[\s([{.,;:=<>"'`/+\-*&|!?@#]$/;

export class Pace {
  private intervalMs = PAUSE_MS;
  private answerMs = 100;
  private lastKey = -Infinity;

  /** Notes a key press at `now` milliseconds. */
  pressed(now: number): void {
    const interval = Math.min(now - this.lastKey, PAUSE_MS);
    this.lastKey = now;
    this.intervalMs += SMOOTHING * (interval - this.intervalMs);
  }

  /** Notes how long an answer took. */
  answered(milliseconds: number): void {
    this.answerMs += SMOOTHING * (milliseconds - this.answerMs);
  }

  /** Milliseconds to wait, at most `longest`, when `before` is the line up to the cursor. */
  delay(before: string, longest: number): number {
    if (before === "" || BOUNDARY.test(before) || this.intervalMs >= PAUSE_MS * 0.8) {
      return 0;
    }
    // Someone who types a key every 120 ms will have pressed the next one before an answer of 100 ms could be read.
    const haste = Math.min(1, this.answerMs / this.intervalMs);
    return Math.round(Math.min(longest, this.intervalMs * 0.6 * haste));
  }
}
