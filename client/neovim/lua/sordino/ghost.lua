-- What is shown: one suggestion as grey text at the cursor, never part of the buffer.
local M = {}

local SPACE = vim.api.nvim_create_namespace("sordino")
local INLINE = vim.fn.has("nvim-0.10") == 1

-- The suggestion that is shown: buffer, row and column (0-based, bytes), text, and what to report when it is accepted.
M.shown = nil

function M.hide()
  if M.shown and vim.api.nvim_buf_is_valid(M.shown.buffer) then
    vim.api.nvim_buf_clear_namespace(M.shown.buffer, SPACE, 0, -1)
  end
  M.shown = nil
end

-- shown: {buffer, row, column, text, command}
function M.show(shown)
  M.hide()
  local lines = vim.split(shown.text, "\n", { plain = true })
  local line = vim.api.nvim_buf_get_lines(shown.buffer, shown.row, shown.row + 1, false)[1] or ""
  local behind = line:sub(shown.column + 1)
  local first = { { lines[1], "SordinoGhost" } }
  if not INLINE and behind ~= "" then
    table.insert(first, { behind }) -- an overlay hides what stands behind the cursor: draw that again
  end
  local below = {}
  for index = 2, #lines do
    table.insert(below, { { lines[index] == "" and " " or lines[index], "SordinoGhost" } })
  end
  vim.api.nvim_buf_set_extmark(shown.buffer, SPACE, shown.row, shown.column, {
    virt_text = first,
    virt_text_pos = INLINE and "inline" or "overlay",
    virt_lines = #below > 0 and below or nil,
    hl_mode = "combine",
  })
  M.shown = shown
end

-- The beginning of a text that a person takes at once: all of it, its first line, or its first word.
function M.part(text, kind)
  if kind == "word" then
    return text:match("^%s*[%w_\128-\255]+") or text:match("^%s*[^%s%w_]+") or text
  elseif kind == "line" then
    return text:match("^\n?[^\n]*")
  end
  return text
end

-- Writes a part of what is shown into the buffer and moves the cursor behind it. Gives what was shown, or nil.
function M.accept(kind)
  local shown = M.shown
  if not shown then
    return nil
  end
  M.hide()
  local part = M.part(shown.text, kind)
  local lines = vim.split(part, "\n", { plain = true })
  vim.api.nvim_buf_set_text(shown.buffer, shown.row, shown.column, shown.row, shown.column, lines)
  local row = shown.row + #lines - 1
  local column = #lines == 1 and shown.column + #part or #lines[#lines]
  vim.api.nvim_win_set_cursor(0, { row + 1, column })
  return { whole = part == shown.text, command = shown.command }
end

return M
