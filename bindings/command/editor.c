/* SPDX-License-Identifier: MIT
 *
 * editor.c - libedit, with reading of keys and handling of signals of our own.
 *
 * libedit can handle signals itself, but then SIGINT is sent on to the whole process group, workers included, and an
 * interrupted read is tried once more. So it gets a function to read keys with, and all signals that concern a prompt
 * are blocked while a line is read but inside ppoll: none can come between the look at what was noted and the wait.
 *
 *     read a key:  noted a signal? -> act on it, look again
 *                  ppoll, signals let in -> a key: read it;  interrupted: look again
 *
 * The locale of characters is the user's inside this file alone: for Lua code it stays "C".
 */
#include "editor.h"

#include <errno.h>
#include <histedit.h>
#include <langinfo.h>
#include <limits.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#include "history.h"

/* Signals that are noted while a line is read. */
static const int noted_signals[] = {SIGINT, SIGCONT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGWINCH};
enum { CONTINUED = 1, NOTED_SIGNALS = sizeof noted_signals / sizeof noted_signals[0] };

/* Set by the handler alone, which cannot be told where the editor is. */
static volatile sig_atomic_t noted[NOTED_SIGNALS];

enum { GIVE_UP_KEY = 3 }; /* Ctrl-C */

struct lumap_editor {
  EditLine *edit;
  History *history;
  locale_t locale;    /* 0: none could be made, the process's own is used */
  char *history_path; /* NULL: nothing is written */
  char *line;         /* what lumap_editor_read gave last */
  const char *prompt; /* borrowed while a line is read */
  bool given_up;      /* Ctrl-C while this line is read */
  sigset_t outside;   /* the signal mask without the editor's blocking */
  struct sigaction before[NOTED_SIGNALS];
};

/* --- signals --- */

static void note_signal(int signal_number) {
  for (int i = 0; i < NOTED_SIGNALS; i++) {
    if (noted_signals[i] == signal_number) noted[i] = 1;
  }
}

static void note_from_now_on(int signal_number, struct sigaction *before) {
  struct sigaction action = {.sa_handler = note_signal};
  sigemptyset(&action.sa_mask);
  sigaction(signal_number, &action, before);
}

/* Returns a signal that was noted and forgets it; 0 if there is none. */
static int take_noted(void) {
  for (int i = 0; i < NOTED_SIGNALS; i++) {
    if (noted[i]) {
      noted[i] = 0;
      return noted_signals[i];
    }
  }
  return 0;
}

/* SIGINT is not among those that come and go with a line: it has its handler as long as the editor is open. */
static void begin_signals(lumap_editor *editor) {
  sigset_t blocked;
  sigemptyset(&blocked);
  for (int i = 0; i < NOTED_SIGNALS; i++)
    sigaddset(&blocked, noted_signals[i]);
  pthread_sigmask(SIG_BLOCK, &blocked, &editor->outside);
  for (int i = 1; i < NOTED_SIGNALS; i++)
    note_from_now_on(noted_signals[i], &editor->before[i]);
}

static void end_signals(lumap_editor *editor) {
  for (int i = 1; i < NOTED_SIGNALS; i++)
    sigaction(noted_signals[i], &editor->before[i], NULL);
  pthread_sigmask(SIG_SETMASK, &editor->outside, NULL);
}

static void redraw(lumap_editor *editor) {
  el_set(editor->edit, EL_PREP_TERM, 1);
  el_set(editor->edit, EL_REFRESH);
}

/* Lets a signal have the effect that it has outside of the editor, on a terminal in its normal mode. Returns if the
 * process neither ended nor stays stopped. SIGCONT is let in too: what it asks for is done here already. */
static void let_through(lumap_editor *editor, int signal_number) {
  int i = 0;
  while (noted_signals[i] != signal_number)
    i++;
  el_set(editor->edit, EL_PREP_TERM, 0);
  sigaction(signal_number, &editor->before[i], NULL);
  raise(signal_number);
  sigset_t let_in;
  sigset_t blocked;
  sigemptyset(&let_in);
  sigaddset(&let_in, signal_number);
  sigaddset(&let_in, SIGCONT);
  pthread_sigmask(SIG_UNBLOCK, &let_in, &blocked); /* it arrives here */
  pthread_sigmask(SIG_SETMASK, &blocked, NULL);
  noted[CONTINUED] = 0;
  note_from_now_on(signal_number, &editor->before[i]);
  redraw(editor);
}

/* --- keys --- */

/* What Ctrl-C runs as a key: only after it the cursor is behind all that is shown, where "^C" may be printed. */
static unsigned char leave_line(EditLine *edit, int key) {
  (void)key;
  el_cursor(edit, INT_MAX / 2);
  return CC_CURSOR;
}

/* Waits until there is something to read. False when the line was given up. */
static bool wait_for_key(lumap_editor *editor) {
  for (;;) {
    int signal_number = take_noted();
    switch (signal_number) {
    case 0: {
      struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
      if (ppoll(&input, 1, NULL, &editor->outside) >= 0 || errno != EINTR) return true;
      break;
    }
    case SIGINT:
      editor->given_up = true;
      return false;
    case SIGWINCH:
      el_resize(editor->edit);
      break;
    case SIGCONT:
      redraw(editor);
      break;
    default:
      let_through(editor, signal_number);
    }
  }
}

/* libedit calls this for each character: 1 is a character, 0 the end, -1 ends the line as an error does. Ctrl-C is
 * first a key, then an error. Bytes that are no character are dropped, zero among them: the kernel makes it of a Ctrl-D
 * that was typed while code ran. */
static int read_key(EditLine *edit, wchar_t *character) {
  lumap_editor *editor = NULL;
  mbstate_t state = {0};
  el_get(edit, EL_CLIENTDATA, (void **)&editor);
  for (;;) {
    char byte;
    if (editor->given_up) return -1;
    if (!wait_for_key(editor)) {
      *character = GIVE_UP_KEY;
      return 1;
    }
    ssize_t count = read(STDIN_FILENO, &byte, 1);
    if (count == 0) return 0;
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return -1;
    size_t used = mbrtowc(character, &byte, 1, &state);
    if (used == (size_t)-1) state = (mbstate_t){0};
    if (used > 0 && used != (size_t)-1 && used != (size_t)-2) return 1;
  }
}

/* Keys that libedit leaves unbound though keyboards have them, and Tab, which belongs to the text until something
 * better is bound to it. */
static void bind_keys(EditLine *edit) {
  static const char *const keys[][2] = {
      {"^C", "lumap-leave-line"}, /* reached through SIGINT, see read_key */
      {"\t", "ed-insert"},           {"^R", "em-inc-search-prev"},  {"\033[H", "ed-move-to-beg"},
      {"\033OH", "ed-move-to-beg"},  {"\033[1~", "ed-move-to-beg"}, {"\033[F", "ed-move-to-end"},
      {"\033OF", "ed-move-to-end"},  {"\033[4~", "ed-move-to-end"}, {"\033[3~", "ed-delete-next-char"},
      {"\033[1;5C", "em-next-word"}, {"\033[1;5D", "ed-prev-word"},
  };
  /* The wide form keeps pointers to these strings; the narrow one copies them and never frees the copies. */
  el_wset(edit, EL_ADDFN, L"lumap-leave-line", L"Give up the line", leave_line);
  for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
    el_set(edit, EL_BIND, keys[i][0], keys[i][1], NULL);
}

/* --- history --- */

static void remember(void *data, const char *line, bool goes_on) {
  lumap_editor *editor = data;
  HistEvent event;
  /* libedit takes no bytes that are no text. */
  if (line[0] == '\0' && !goes_on) return;
  if (mbstowcs(NULL, line, 0) == (size_t)-1) return;
  if (goes_on) history(editor->history, &event, H_APPEND, "\n");
  history(editor->history, &event, goes_on ? H_APPEND : H_ENTER, line);
}

void lumap_editor_remember(lumap_editor *editor, const char *line, bool goes_on) {
  locale_t outside = uselocale(editor->locale);
  remember(editor, line, goes_on);
  uselocale(outside);
  if (editor->history_path != NULL) lumap_history_append(editor->history_path, line, goes_on);
}

/* --- the editor --- */

static bool is_editable(void) {
  const char *terminal = getenv("TERM");
  return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && terminal != NULL && terminal[0] != '\0' &&
         strcmp(terminal, "dumb") != 0;
}

/* Where no locale is set terminals still speak UTF-8, as a rule. */
static locale_t user_locale(void) {
  locale_t locale = newlocale(LC_CTYPE_MASK, "", (locale_t)0);
  if (locale == (locale_t)0 || strcmp(nl_langinfo_l(CODESET, locale), "ANSI_X3.4-1968") == 0) {
    locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    if (utf8 == (locale_t)0) return locale;
    if (locale != (locale_t)0) freelocale(locale);
    locale = utf8;
  }
  return locale;
}

static char *current_prompt(EditLine *edit) {
  lumap_editor *editor = NULL;
  el_get(edit, EL_CLIENTDATA, (void **)&editor);
  return (char *)editor->prompt; /* libedit's type has no const; it does not write to it */
}

static bool start_editing(lumap_editor *editor) {
  HistEvent event;
  editor->history = history_init();
  editor->edit = el_init("lumap", stdin, stdout, stderr);
  if (editor->history == NULL || editor->edit == NULL) return false;
  history(editor->history, &event, H_SETSIZE, LUMAP_HISTORY_ENTRIES);
  history(editor->history, &event, H_SETUNIQUE, 1);
  el_set(editor->edit, EL_CLIENTDATA, editor);
  el_set(editor->edit, EL_GETCFN, read_key);
  el_set(editor->edit, EL_PROMPT_ESC, current_prompt, '\1');
  el_set(editor->edit, EL_HIST, history, editor->history);
  el_set(editor->edit, EL_EDITOR, "emacs");
  bind_keys(editor->edit);
  el_source(editor->edit, NULL); /* the user's ~/.editrc has the last word */
  editor->history_path = lumap_history_path();
  if (editor->history_path != NULL) lumap_history_load(editor->history_path, remember, editor);
  return true;
}

lumap_editor *lumap_editor_open(void) {
  if (!is_editable()) return NULL;
  lumap_editor *editor = calloc(1, sizeof *editor);
  if (editor == NULL) return NULL;
  editor->locale = user_locale();
  locale_t outside = uselocale(editor->locale);
  bool started = start_editing(editor);
  uselocale(outside);
  note_from_now_on(SIGINT, &editor->before[0]);
  if (started) return editor;
  lumap_editor_close(editor);
  return NULL;
}

void lumap_editor_close(lumap_editor *editor) {
  if (editor == NULL) return;
  sigaction(SIGINT, &editor->before[0], NULL);
  if (editor->edit != NULL) el_end(editor->edit);
  if (editor->history != NULL) history_end(editor->history);
  if (editor->locale != (locale_t)0) freelocale(editor->locale);
  free(editor->history_path);
  free(editor->line);
  free(editor);
}

/* Copies libedit's line without its newline. False when memory is short. */
static bool keep_line(lumap_editor *editor, const char *line, int length) {
  if (length > 0 && line[length - 1] == '\n') length--;
  free(editor->line);
  editor->line = strndup(line, (size_t)length);
  return editor->line != NULL;
}

lumap_editor_result lumap_editor_read(lumap_editor *editor, const char *prompt, const char **line) {
  int length = 0;
  bool got_line = false;
  editor->prompt = prompt;
  editor->given_up = false;
  fflush(stdout);
  locale_t outside = uselocale(editor->locale);
  begin_signals(editor);
  /* Before the prompt shows: libedit itself would do it after, and lose a Ctrl-D that is quicker. */
  el_set(editor->edit, EL_PREP_TERM, 1);
  const char *text = el_gets(editor->edit, &length);
  if (text != NULL && length > 0) got_line = keep_line(editor, text, length);
  end_signals(editor);
  uselocale(outside);
  if (editor->given_up) {
    fputs("^C\n", stdout);
    fflush(stdout);
    return LUMAP_EDITOR_GIVEN_UP;
  }
  if (!got_line) return LUMAP_EDITOR_END;
  *line = editor->line;
  return LUMAP_EDITOR_LINE;
}
